// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// encodeConfigure encodes a request.
func encodeConfigure(t *testing.T, c protocol.Configure) string {
	t.Helper()
	b, err := json.Marshal(protocol.Request{Version: protocol.Version, Configure: &c})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// run runs a command that executes nsproc with namespace as descriptor 3, and decodes its reply.
func run(t *testing.T, namespace *os.File, request string, command ...string) protocol.Reply {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.ExtraFiles = []*os.File{namespace}
	cmd.Stdin = strings.NewReader(request)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && cmd.ProcessState.ExitCode() != protocol.Refused {
		t.Fatalf("nsproc: %v\n%s", err, &stderr)
	}
	var reply protocol.Reply
	if err := json.Unmarshal(out, &reply); err != nil {
		t.Fatalf("reply %q: %v", out, err)
	}
	if (reply.Error != nil) != (err != nil) {
		t.Errorf("reply %q with %v", out, cmd.ProcessState)
	}
	return reply
}

// snapshot lists the calling thread's namespace.
func snapshot() (*netstate.Snapshot, error) {
	dump, err := list(protocol.List{Routes: true, Neighbours: true}, nil)
	if err != nil {
		return nil, err
	}
	return rtnl.Decode(dump)
}

// Every thread of nsproc is in the namespace, although no thread of the test is. The timer slack lets the runtime's
// monitor thread sleep.
func TestThreadsAreBornInside(t *testing.T) {
	ns := nstest.New(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	cmd := exec.CommandContext(t.Context(), nstest.Nsproc(t))
	cmd.ExtraFiles = []*os.File{ns.File()}
	cmd.Stdin = r // without a request, so that it waits
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // it says that the process was killed
	}()
	want, err := os.Readlink(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	var threads []string
	for deadline := time.Now().Add(10 * time.Second); len(threads) < 3; { // until the runtime has started
		if time.Now().After(deadline) {
			t.Fatalf("%d threads, want several", len(threads))
		}
		if threads, err = filepath.Glob(fmt.Sprintf("/proc/%d/task/*/ns/net", cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	for _, thread := range threads {
		if got, err := os.Readlink(thread); err != nil || got != want {
			t.Errorf("%s is %s (error %v), want %s", thread, got, err, want)
		}
	}
	slack, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", cmd.Process.Pid))
	if err != nil || string(slack) != "1000000000\n" {
		t.Errorf("timer slack %q (error %v), want a second", slack, err)
	}
}

// An nsproc without its entry point is in the namespace that it was started in, and must change nothing there.
func TestRefusesWithoutEntryPoint(t *testing.T) {
	host, ns, peer := nstest.New(t), nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, peer, host, "host0", "10.32.0.9/22")
	request := encodeConfigure(t, protocol.Configure{
		Peer: index, MAC: hwaddr, Multicast: true,
	})
	path := nstest.BuildNsproc(t, "")
	host.Do(t, func() error { // a process starts in its parent thread's namespace
		e := run(t, ns.File(), request, path).Error
		if e == nil || e.Op != "check namespace" || !strings.Contains(e.Message, "without its entry point") {
			t.Errorf("got %+v", e)
		}
		s, err := snapshot()
		if err != nil {
			return err
		}
		for _, r := range s.Routes {
			if r.Destination == multicast {
				t.Errorf("it set route %+v", r)
			}
		}
		return nil
	})
	// With the entry point the same request succeeds.
	if reply := run(t, host.File(), request, nstest.Nsproc(t)); reply.Error != nil {
		t.Errorf("with the entry point: %+v", reply.Error)
	}
}

// TestRefusesTheHost: an nsproc that is given the plugin's own namespace changes nothing there.
func TestRefusesTheHost(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	peer := nstest.New(t)
	host, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	request := encodeConfigure(t, protocol.Configure{
		Peer: 2, MAC: mac.MustParse("02:00:00:00:00:01"), Multicast: true,
	})
	for _, message := range []string{request, `{"version":1,"list":{}}`} {
		e := run(t, host, message, nstest.Nsproc(t)).Error
		if e == nil || e.Op != "check namespace" || !strings.Contains(e.Message, "the host's own") {
			t.Errorf("%s: got %+v, want a refusal", message, e)
		}
	}
	if reply := run(t, peer.File(), request, nstest.Nsproc(t)); reply.Error == nil || reply.Error.Op != "configure" {
		t.Errorf("in another namespace: %+v, want only the container end to be missing", reply.Error)
	}
}

func TestEntryFails(t *testing.T) {
	ns := nstest.New(t)
	path := nstest.Nsproc(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, tc := range []struct {
		name  string
		files []*os.File
		want  unix.Errno
	}{
		{"no descriptor", nil, unix.EBADF},
		{"not a namespace", []*os.File{null}, unix.EINVAL},
		{"the descriptor has another number", []*os.File{nil, ns.File()}, unix.EBADF},
	} {
		cmd := exec.CommandContext(t.Context(), path)
		cmd.ExtraFiles = tc.files
		err := cmd.Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != protocol.EntryFailed+int(tc.want) {
			t.Errorf("%s: got %v, want status 100 + %d", tc.name, err, tc.want)
		}
	}
}

func TestBadRequest(t *testing.T) {
	ns := nstest.New(t)
	path := nstest.Nsproc(t)
	for request, want := range map[string]string{
		`{"version":2,"list":{}}`:        "same release",
		`{"version":1,"list":{},"x":{}}`: "unknown field",
		`hello`:                          "decode",
	} {
		reply := run(t, ns.File(), request, path)
		if reply.Version != protocol.Version {
			t.Errorf("%s: got version %d", request, reply.Version)
		}
		if e := reply.Error; e == nil || e.Op != "read request" || !strings.Contains(e.Message, want) {
			t.Errorf("%s: got %+v, want %q", request, e, want)
		}
	}
}

// If the plugin ends before it has sent a request, nsproc ends as well.
func TestEndsWithoutPlugin(t *testing.T) {
	ns := nstest.New(t)
	cmd := exec.CommandContext(t.Context(), nstest.Nsproc(t))
	cmd.ExtraFiles = []*os.File{ns.File()}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "unexpected EOF") {
		t.Errorf("got %q and error %v", out, err)
	}
}

// The entry point for arm64, in an emulator. The request is Configure because qemu-user translates the netlink
// messages that it needs, but not all that List needs.
func TestArm64(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil {
		t.Skip("needs qemu-user-static")
	}
	host, ns := nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, host, ns, "host0", "10.32.0.9/22")
	request := encodeConfigure(t, protocol.Configure{
		Peer: index, MAC: hwaddr, Multicast: true,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.32.0.9/22")},
	})
	path := nstest.BuildNsproc(t, "-E weave_nsproc_entry", "GOARCH=arm64")
	if reply := run(t, ns.File(), request, qemu, path); reply.Error != nil {
		t.Errorf("configure: %+v", reply.Error)
	}
	if !hasMulticast(t, ns) {
		t.Error("no multicast route")
	}
	cmd := exec.CommandContext(t.Context(), qemu, path)
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != protocol.EntryFailed+int(unix.EBADF) {
		t.Errorf("without a namespace: got %v, want status 109", err)
	}
	path = nstest.BuildNsproc(t, "", "GOARCH=arm64")
	if reply := run(t, ns.File(), request, qemu, path); reply.Error == nil || reply.Error.Op != "check namespace" {
		t.Errorf("without the entry point: got %+v", reply.Error)
	}
}

func hasMulticast(t *testing.T, ns *nstest.NS) (found bool) {
	t.Helper()
	ns.Do(t, func() error {
		s, err := snapshot()
		if err != nil {
			return err
		}
		for _, r := range s.Routes {
			found = found || r.Destination == multicast
		}
		return nil
	})
	return found
}
