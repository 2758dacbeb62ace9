// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

// Underlay is the network between hosts: a network namespace with a bridge to which hosts are attached, or with one of
// the ports of a Switch. The bridge, or port, has an address, so that the namespace is also the world outside of the
// hosts.
type Underlay struct {
	address netip.Prefix
	holder  *process // keeps the namespace alive
	sw      *Switch  // nil: a bridge
}

// Outside is the name of the underlay's own link, behind which etcd is, and all else that is no host.
const Outside = "underlay"

// NewUnderlay makes an underlay whose bridge has the given address, and closes it at the end of t. It has to outlive
// the hosts on it, so make it before them.
func NewUnderlay(t testing.TB, address netip.Prefix) *Underlay {
	t.Helper()
	u := BootUnderlay(t, address)
	t.Cleanup(u.Close)
	return u
}

// BootUnderlay makes an underlay. It lasts until Close is called.
func BootUnderlay(t testing.TB, address netip.Prefix) *Underlay {
	t.Helper()
	u := holdUnderlay(t, address)
	u.Exec(t, "ip", "link", "add", Outside, "type", "bridge")
	u.setUp(t)
	return u
}

// holdUnderlay makes an underlay's namespace.
func holdUnderlay(t testing.TB, address netip.Prefix) *Underlay {
	t.Helper()
	needRoot(t)
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	holder, err := startProcess(cmd)
	if err != nil {
		t.Fatalf("make the underlay: %v", err)
	}
	return &Underlay{address: address, holder: holder}
}

// setUp gives the underlay's own link, which is called Outside, the address.
func (u *Underlay) setUp(t testing.TB) {
	t.Helper()
	u.Exec(t, "ip", "link", "set", "lo", "up")
	u.Exec(t, "ip", "address", "add", u.address.String(), "dev", Outside)
	u.Exec(t, "ip", "link", "set", Outside, "up")
}

// Close ends the underlay.
func (u *Underlay) Close() { u.holder.kill() }

// Address returns the address of the underlay's own link, which is outside of every host.
func (u *Underlay) Address() netip.Addr { return u.address.Addr() }

// Path returns the path of the underlay's network namespace.
func (u *Underlay) Path() string { return fmt.Sprintf("/proc/%d/ns/net", u.holder.pid) }

// Command returns a command that runs in the underlay's network namespace, outside of every host.
func (u *Underlay) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append(u.enter(name), args...)...)
}

// enter returns the arguments with which nsenter runs a command in the underlay's network namespace.
func (u *Underlay) enter(command ...string) []string {
	return append([]string{"-t", strconv.Itoa(u.holder.pid), "-n", "--"}, command...)
}

// Exec runs a command in the underlay's network namespace and returns its output. It fails t if the command fails.
func (u *Underlay) Exec(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, err := output(u.Command(ctx, name, args...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// attach gives a host an eth0 on the underlay, and a default route.
func (u *Underlay) attach(t testing.TB, h *Host) {
	t.Helper()
	if u.sw != nil {
		if err := u.sw.plug(h.options.Name, h.PID(), "eth0"); err != nil {
			t.Fatal(err)
		}
	} else {
		u.plug(t, h)
	}
	h.Exec(t, "ip", "address", "add", h.options.Address.String(), "dev", "eth0")
	h.Exec(t, "ip", "link", "set", "eth0", "up")
	h.Exec(t, "ip", "route", "add", "default", "via", u.Address().String())
}

// plug makes a host's eth0 a port of the bridge.
func (u *Underlay) plug(t testing.TB, h *Host) {
	t.Helper()
	name := h.options.Name
	// After a power-off the old eth0's peer exists until the kernel has removed the host's namespace.
	_, _ = output(exec.Command("nsenter", u.enter("ip", "link", "delete", "u-"+name)...))
	add := exec.Command("ip", "link", "add", "name", "eth0", "netns", strconv.Itoa(h.PID()), "type", "veth",
		"peer", "name", "u-"+name, "netns", strconv.Itoa(u.holder.pid))
	if _, err := output(add); err != nil {
		t.Fatal(err)
	}
	u.Exec(t, "ip", "link", "set", "u-"+name, "master", Outside, "up")
}
