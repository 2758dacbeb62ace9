// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

// prefixes parses subnets.
func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func TestCheckWayOut(t *testing.T) {
	pools := prefixes("172.18.0.0/15", "192.168.0.0/16")
	there, missing := prefixes("172.18.0.0/16"), prefixes()
	for _, c := range []struct {
		name, subnet string
		space        string
		internal     bool
		there        []netip.Prefix // subnets of docker_gwbridge
		want         string         // part of the error; empty: none
	}{
		{"the same", "172.18.0.0/16", "weavelocal", false, there, "overlaps 172.18.0.0/16 of docker_gwbridge"},
		{"within it", "172.18.5.0/24", "weavelocal", false, there, "--internal"},
		{"around it", "172.16.0.0/12", "weavelocal", false, there, "docker network rm docker_gwbridge"},
		{"the same of Docker's own IPAM", "172.18.0.0/16", "LocalDefault", false, there, "overlaps"},
		{"the same, internal", "172.18.0.0/16", "weavelocal", true, there, ""},
		{"beside it", "172.19.0.0/16", "weavelocal", false, there, ""},
		{"elsewhere", "10.32.0.0/22", "weavelocal", false, there, ""},
		{"IPv6", "fd00:32::/64", "weavelocal", false, there, ""},
		{"Docker's null pool", "0.0.0.0/0", "null", false, there, ""},

		{"Docker may take it", "172.18.0.0/16", "weavelocal", false, missing, "overlaps 172.18.0.0/15, from which"},
		{"Docker may take a part", "172.16.0.0/12", "weavelocal", false, missing, "docker network create --subnet"},
		{"Docker may take what is around", "192.168.7.0/24", "weavelocal", false, missing, "192.168.0.0/16"},
		{"of a Swarm", "172.18.0.0/16", "weaveglobal", false, missing, "overlaps"},
		{"Docker knows that it is taken", "172.18.0.0/16", "LocalDefault", false, missing, ""},
		{"Docker may take it, internal", "172.18.0.0/16", "weavelocal", true, missing, ""},
		{"Docker takes others", "10.32.0.0/22", "weavelocal", false, missing, ""},
		{"null pool, bridge missing", "0.0.0.0/0", "null", false, missing, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			def := Definition{
				Internal: c.internal, Pools: []Pool{{Subnet: netip.MustParsePrefix(c.subnet), Space: c.space}},
			}
			err := def.checkWayOut(c.there, pools)
			if c.want == "" && err != nil || c.want != "" &&
				(!errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			def.Gateway = GatewayAuto
			want := c.want != "" && len(c.there) > 0 // while it is missing Docker looks at the host's routes
			if err := def.checkWayOut(c.there, pools); want != errors.Is(err, ErrConflict) || !want && err != nil {
				t.Errorf("with a gateway of its own: error %v, want one: %t", err, want)
			}
		})
	}
}

// addDockersBridge makes a bridge as Docker does, with an address.
func addDockersBridge(t *testing.T, name, address string) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: linkNamed(name)}); err != nil {
		t.Fatal(err)
	}
	link := mustLink(t, name)
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	return link
}

// TestWayOutIsSeen: a network whose subnet docker_gwbridge has is refused and leaves nothing; if docker_gwbridge comes
// later, that is a problem as long as it is so.
func TestWayOutIsSeen(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.dockersPools = func() []netip.Prefix { return prefixes("172.18.0.0/15") }
	spec := withMTU(netID, 1500)
	spec.Pools = []Pool{{Subnet: netip.MustParsePrefix("172.19.5.0/24"), Space: "weavelocal"}}
	refused := func(want string) {
		t.Helper()
		err := r.CreateNetwork(t.Context(), spec)
		if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want ErrConflict and %q", err, want)
		}
		if left := ownLinks(t); len(left) != 0 || len(r.Networks()) != 0 {
			t.Errorf("left behind: %v, %v", left, r.Networks())
		}
	}
	refused("from which Docker has yet to take")
	wayOutLink := addDockersBridge(t, WayOut, "172.19.0.1/16")
	refused("172.19.0.0/16 of docker_gwbridge")
	if err := netlink.LinkDel(wayOutLink); err != nil {
		t.Fatal(err)
	}
	wayOutLink = addDockersBridge(t, WayOut, "172.18.0.1/16")
	r.createNetwork(spec)
	expect := func(want ...string) {
		t.Helper()
		got := slices.DeleteFunc(r.Problems(t.Context()), func(p string) bool {
			return !strings.Contains(p, "overlaps")
		})
		if len(got) != len(want) || len(want) == 1 && !strings.Contains(got[0], want[0]) {
			t.Errorf("problems %q, want %q", got, want)
		}
	}
	expect()
	if err := netlink.LinkDel(wayOutLink); err != nil {
		t.Fatal(err)
	}
	addDockersBridge(t, "virbr0", "172.19.5.1/24") // not Docker's
	expect()
	wayOutLink = addDockersBridge(t, WayOut, "172.19.0.1/16")
	expect("subnet 172.19.5.0/24 overlaps 172.19.0.0/16 of bridge docker_gwbridge: its containers can't be connected")
	if err := r.CreateNetwork(t.Context(), spec); err != nil {
		t.Errorf("a repeated request for a network that is there: %v", err)
	}
	if err := netlink.LinkDel(wayOutLink); err != nil {
		t.Fatal(err)
	}
	addDockersBridge(t, "br-0123456789ab", "172.19.0.1/16")
	expect("of bridge br-0123456789ab: no container can be on both")
}
