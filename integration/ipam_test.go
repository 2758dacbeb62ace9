// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// ipamNetwork creates a weave network with weave's IPAM driver.
func ipamNetwork(t *testing.T, h *lab.Host, name string, options ...string) {
	t.Helper()
	weaveNetwork(t, h, name, append([]string{"--ipam-driver", "weave"}, options...)...)
}

// pool is an entry of a network's IPAM configuration in Docker.
type pool struct {
	Subnet, IPRange, Gateway string
}

func poolsOf(t *testing.T, h *lab.Host, network string) []pool {
	t.Helper()
	var n struct{ IPAM struct{ Config []pool } }
	h.Inspect(t, network, &n)
	return n.IPAM.Config
}

func TestSubnetsOutOfTheDefaultRange(t *testing.T) {
	h := sharedHost(t)
	whole := netip.MustParsePrefix("10.32.0.0/12")
	var seen []netip.Prefix
	for _, name := range []string{"auto1", "auto2", "auto3"} {
		ipamNetwork(t, h, name)
		p := poolsOf(t, h, name)
		if len(p) != 1 {
			t.Fatalf("pools of %s: %v", name, p)
		}
		subnet := netip.MustParsePrefix(p[0].Subnet)
		if !whole.Overlaps(subnet) || subnet.Bits() != 22 {
			t.Errorf("%s got %s, want a /22 of %s", name, subnet, whole)
		}
		if slices.ContainsFunc(seen, subnet.Overlaps) {
			t.Errorf("%s got %s, which overlaps one of %v", name, subnet, seen)
		}
		seen = append(seen, subnet)
	}
	h.Run(t, "--network", "auto1", "--name", "one")
	h.Run(t, "--network", "auto1", "--name", "two")
	ping(t, h, "one", "two")
	awaitEndpoints(t, h, 2)
}

func TestSubnetOfTheUser(t *testing.T) {
	h := sharedHost(t)
	ipamNetwork(t, h, "given", "--internal", "--subnet", "10.60.0.0/24", "--ip-range", "10.60.0.128/29",
		"--gateway", "10.60.0.1", "--aux-address", "reserved=10.60.0.129")
	if got := poolsOf(t, h, "given"); !slices.Equal(got, []pool{{"10.60.0.0/24", "10.60.0.128/29", "10.60.0.1"}}) {
		t.Errorf("Docker has %v", got)
	}
	r := netip.MustParsePrefix("10.60.0.128/29")
	var seen []netip.Addr
	for _, name := range []string{"r1", "r2", "r3"} {
		h.Run(t, "--network", "given", "--name", name)
		a := netip.MustParseAddr(attachmentOf(t, h, name, "given").IPAddress)
		if !r.Contains(a) || a == netip.MustParseAddr("10.60.0.129") || slices.Contains(seen, a) {
			t.Errorf("%s got %s: want one of %s, neither reserved nor given before (%v)", name, a, r, seen)
		}
		seen = append(seen, a)
	}
	h.Run(t, "--network", "given", "--name", "fixed", "--ip", "10.60.0.77")
	ping(t, h, "r1", "10.60.0.77")
	refused(t, h, []string{"run", "-d", "--network", "given", "--ip", "10.60.0.77", lab.Image}, "10.60.0.77")
	refused(t, h, []string{"run", "-d", "--network", "given", "--ip", "10.60.0.1", lab.Image}, "10.60.0.1")
}

func TestIPv6Addresses(t *testing.T) {
	h := sharedHost(t)
	ipamNetwork(t, h, "six", "--internal", "--ipv6", "--subnet", "10.61.0.0/24", "--subnet", "fd61::/64")
	h.Run(t, "--network", "six", "--name", "one")
	h.Run(t, "--network", "six", "--name", "two")
	two := attachmentOf(t, h, "two", "six")
	if a, err := netip.ParseAddr(two.GlobalIPv6Address); err != nil || !netip.MustParsePrefix("fd61::/64").Contains(a) {
		t.Errorf("IPv6 address %q (%v)", two.GlobalIPv6Address, err)
	}
	ping(t, h, "one", two.GlobalIPv6Address)
	ping(t, h, "one", two.IPAddress)
	awaitEndpoints(t, h, 2)
}

// A network can be without IPv4 from Docker 28 on. The test uses Docker's API, since the docker command may be older.
func TestIPv6Only(t *testing.T) {
	h := sharedHost(t)
	if !announced(t, h) {
		t.Skip("Docker before 28 has no networks without IPv4")
	}
	post(t, h, "/networks/create",
		`{"Name":"only6","Driver":"weave","IPAM":{"Driver":"weave"},"EnableIPv4":false,"EnableIPv6":true}`)
	t.Cleanup(func() { h.Docker(t, "network", "rm", "only6") })
	h.Run(t, "--network", "only6", "--name", "one")
	h.Run(t, "--network", "only6", "--name", "two")
	two := attachmentOf(t, h, "two", "only6")
	if two.IPAddress != "" || two.GlobalIPv6Address == "" {
		t.Errorf("addresses %+v, want an IPv6 one only", two)
	}
	ping(t, h, "one", two.GlobalIPv6Address)
	ping(t, h, "one", "two")
	awaitEndpoints(t, h, 2)
}

// post sends JSON to Docker's API, for what an older docker command can't say.
func post(t *testing.T, h *lab.Host, path, body string) {
	t.Helper()
	h.Exec(t, "curl", "-fsS", "--unix-socket", lab.DockerSocket, "http://docker"+path,
		"-H", "Content-Type: application/json", "-d", body)
}

func TestPoolIsExhausted(t *testing.T) {
	h := sharedHost(t)
	ipamNetwork(t, h, "small", "--internal",
		"--subnet", "10.62.0.0/29", "--ip-range", "10.62.0.4/31", "--gateway", "10.62.0.1")
	first := h.Run(t, "--network", "small")
	h.Run(t, "--network", "small")
	refused(t, h, []string{"run", "-d", "--network", "small", "--name", "excess", lab.Image}, "10.62.0.")
	h.Docker(t, "rm", "-f", first, "excess")
	h.Run(t, "--network", "small", "--name", "next") // gets the released address
}

func TestOverlappingSubnetIsRefused(t *testing.T) {
	h := sharedHost(t)
	ipamNetwork(t, h, "first", "--subnet", "10.63.0.0/24")
	second := "network create -d weave --ipam-driver weave --subnet 10.63.0.0/16 second"
	refused(t, h, strings.Fields(second), "10.63.0.0/16", "overlap")
	h.Docker(t, "network", "rm", "first")
	ipamNetwork(t, h, "again", "--subnet", "10.63.0.0/16")
}

// refused runs a docker command and fails t if the command does not fail with an error that contains all of the texts.
func refused(t *testing.T, h *lab.Host, command []string, texts ...string) {
	t.Helper()
	out, err := h.DockerErr(command...)
	if err == nil {
		t.Errorf("docker %s was not refused", strings.Join(command, " "))
		t.Cleanup(func() { _, _ = h.DockerErr("rm", "-f", out) }) // for the next tests
		return
	}
	want(t, err.Error(), texts...)
	if strings.HasPrefix(command[0], "run") {
		t.Cleanup(func() { _, _ = h.DockerErr("rm", "-f", out) }) // Docker keeps a container that it could not start
	}
}
