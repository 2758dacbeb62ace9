// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/integration/lab"
)

// engineMajor returns the first number of the Docker Engine's version.
func engineMajor(t testing.TB, h *lab.Host) int {
	t.Helper()
	version := h.Docker(t, "version", "-f", "{{.Server.Version}}")
	first, _, _ := strings.Cut(version, ".")
	major, err := strconv.Atoi(first)
	if err != nil {
		t.Fatalf("version %q: %v", version, err)
	}
	return major
}

// A container that stops and comes back has the same addresses, IPv4 and IPv6, as with Docker's own IPAM. Where Docker
// does not say whose address it requests, before version 29, containers that all come back at once may swap theirs.
func TestAddressesStay(t *testing.T) {
	h, p := startHost(t, "stay")
	ipamNetwork(t, h, "app", "--internal", "--ipv6", "--subnet", "10.64.0.0/24", "--subnet", "fd64::/64")
	names := []string{"red", "green", "blue"}
	for _, name := range names {
		h.Run(t, "--network", "app", "--name", name, "--restart", "always", "--stop-timeout", "1")
	}
	addresses := func() map[string]string {
		t.Helper()
		out := map[string]string{}
		for _, name := range names {
			x := attachmentOf(t, h, name, "app")
			out[name] = x.IPAddress + " " + x.GlobalIPv6Address
		}
		return out
	}
	first := addresses()
	unchanged := func(after string) {
		t.Helper()
		if diff := cmp.Diff(first, addresses()); diff != "" {
			t.Errorf("addresses after %s (-before +after):\n%s", after, diff)
		}
	}
	for range 3 {
		h.Docker(t, "restart", "green")
	}
	unchanged("three restarts")
	h.Docker(t, "restart", "red", "green", "blue")
	unchanged("a restart of all, one after the other")
	h.Docker(t, "stop", "green")
	h.Docker(t, "start", "green")
	unchanged("stop and start")
	h.Docker(t, "stop", "blue", "green", "red")
	h.Docker(t, "start", "red", "green", "blue")
	unchanged("a stop of all, and a start in the order of their first")
	h.Docker(t, "stop", "blue")
	p.Kill()
	p.Restart(t)
	h.Docker(t, "start", "blue")
	unchanged("a restart of weave while one was stopped")
	h.Docker(t, "rm", "-f", "green")
	h.Run(t, "--network", "app", "--name", "green", "--restart", "always", "--stop-timeout", "1")
	unchanged("one was removed and made again")

	h.StopDocker(t)
	h.StartDocker(t)
	awaitRunning(t, h, names...)
	if engineMajor(t, h) >= 29 {
		unchanged("a restart of Docker")
	}
	t.Logf("before a restart of Docker: %v, after it: %v", first, addresses())
	v4 := func(addresses map[string]string) (out []string) {
		for _, a := range addresses {
			out = append(out, strings.Fields(a)[0])
		}
		slices.Sort(out)
		return out
	}
	if diff := cmp.Diff(v4(first), v4(addresses())); diff != "" {
		t.Errorf("the addresses of all, after a restart of Docker (-before +after):\n%s", diff)
	}
}
