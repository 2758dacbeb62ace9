// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

var comparePrefixes = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

// dial opens a connection inside ns.
func dial(t *testing.T, ns *nstest.NS) (c *Conn) {
	t.Helper()
	ns.Do(t, func() (err error) {
		c, err = Dial()
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestLinks(t *testing.T) {
	ns, peer := nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, peer, ns, "host0", "10.32.0.9/22", "10.32.0.3/22", "fd00::9/64")
	ns.Do(t, func() error {
		bridge := netlink.NewLinkAttrs()
		bridge.Name = "br0"
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: bridge}); err != nil {
			return err
		}
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		port := netlink.NewLinkAttrs()
		port.Name, port.MTU, port.MasterIndex = "p0", 1400, br.Attrs().Index // the bridge follows its port
		port.HardwareAddr = net.HardwareAddr{2, 0, 0, 0, 0, 1}
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: port, PeerName: "p1", PeerHardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		})
	})
	links, err := dial(t, ns).Links(Here)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]netstate.Link{}
	for i, l := range links {
		if i > 0 && links[i-1].Index >= l.Index {
			t.Errorf("link %d after %d", l.Index, links[i-1].Index)
		}
		if l.Name == "eth0" { // leave out the link-local address that the kernel chooses
			l.Addresses = l.Addresses[:min(3, len(l.Addresses))]
		}
		byName[l.Name] = l
	}
	prefixes := func(ss ...string) (out []netip.Prefix) {
		for _, s := range ss {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	index0, index1 := byName["p0"].Index, byName["p1"].Index
	want := map[string]netstate.Link{
		"lo": {Name: "lo", MTU: 65536, Up: true, Carrier: true, Addresses: prefixes("127.0.0.1/8", "::1/128")},
		"eth0": {Name: "eth0", Kind: "veth", MAC: hwaddr, MTU: 1500, Up: true, Carrier: true, Peer: index,
			Addresses: prefixes("10.32.0.3/22", "10.32.0.9/22", "fd00::9/64")},
		"br0": {Name: "br0", Kind: "bridge", MAC: byName["br0"].MAC, MTU: 1400},
		"p0": {Name: "p0", Kind: "veth", MAC: mac.MustParse("02:00:00:00:00:01"), MTU: 1400, Peer: index1,
			Master: byName["br0"].Index},
		"p1": {Name: "p1", Kind: "veth", MAC: mac.MustParse("02:00:00:00:00:02"), MTU: 1400, Peer: index0},
	}
	if port := byName["p0"]; port.PortState != "disabled" || port.Qdisc != "noop" || port.Isolated {
		t.Errorf("a port that is down: %+v", port)
	}
	ignored := cmpopts.IgnoreFields(netstate.Link{}, "Index", "Qdisc", "PortState", "Isolated", "Counters")
	if diff := cmp.Diff(want, byName, comparePrefixes, ignored); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
}

// Both ends of a veth pair may have the same index, each in its own namespace. The kernel leaves IFLA_LINK out where
// a link is its own lower device, which such an end must not be mistaken for.
func TestPeerWithTheSameIndex(t *testing.T) {
	host, inside := nstest.New(t), nstest.New(t)
	index, _ := nstest.Veth(t, host, inside, "host0")
	links, err := dial(t, inside).Links(Here)
	if err != nil {
		t.Fatal(err)
	}
	eth0 := links[len(links)-1]
	if eth0.Index != index {
		t.Fatalf("indexes %d and %d, want the same for this test", eth0.Index, index)
	}
	if eth0.Peer != index {
		t.Errorf("got peer %d, want %d", eth0.Peer, index)
	}
}

// The message of a link with many alternative names is larger than 64 KiB, and a container may give its link as many.
func TestLinkWithManyNames(t *testing.T) {
	ns, peer := nstest.New(t), nstest.New(t)
	nstest.Veth(t, peer, ns, "host0", "10.32.0.9/22")
	const names = 496 // more are refused by the kernel
	ns.Do(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for i := range names {
			if err := netlink.LinkAddAltName(link, fmt.Sprintf("%0127d", i)); err != nil {
				return fmt.Errorf("add alternative name %d: %w", i, err)
			}
		}
		return nil
	})
	c := dial(t, ns)
	dump, err := c.Dump(Wanted{})
	if err != nil || len(dump) < 64<<10 {
		t.Fatalf("a dump of %d bytes, error %v: want at least 64 KiB", len(dump), err)
	}
	links, err := c.Links(Here)
	if err != nil || len(links) != 2 || links[1].Name != "eth0" || len(links[1].Addresses) == 0 {
		t.Errorf("got %+v and error %v, want lo and eth0", links, err)
	}
}

func TestSnapshot(t *testing.T) {
	host, ns := nstest.New(t), nstest.New(t)
	nstest.Veth(t, host, ns, "host0", "10.32.0.9/22", "fd00::9/64")
	var eth0 int
	ns.Do(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		eth0 = link.Attrs().Index
		_, dst, _ := net.ParseCIDR("192.0.2.0/24")
		_, dst6, _ := net.ParseCIDR("2001:db8::/32")
		gateway, second := net.ParseIP("10.32.0.1"), net.ParseIP("10.32.0.2")
		router := net.HardwareAddr{2, 0, 0, 0, 0, 1}
		for _, r := range []netlink.Route{
			{LinkIndex: eth0, Gw: gateway},
			{LinkIndex: eth0, Gw: gateway, Dst: dst, Table: 100},
			{Dst: dst, Priority: 7, MultiPath: []*netlink.NexthopInfo{
				{LinkIndex: eth0, Gw: gateway}, {LinkIndex: eth0, Gw: second},
			}},
			{LinkIndex: eth0, Gw: net.ParseIP("fd00::1"), Dst: dst6, Priority: 9},
		} {
			if err := netlink.RouteAdd(&r); err != nil {
				return err
			}
		}
		for _, n := range []netlink.Neigh{
			{LinkIndex: eth0, IP: gateway, HardwareAddr: router, State: unix.NUD_PERMANENT},
			{LinkIndex: eth0, IP: net.ParseIP("fd00::1"), HardwareAddr: router, State: unix.NUD_STALE},
		} {
			if err := netlink.NeighAdd(&n); err != nil {
				return err
			}
		}
		return nil
	})
	c := dial(t, ns)
	multicast := netstate.Route{Destination: netip.MustParsePrefix("224.0.0.0/4"), Link: eth0, Metric: 1000 + eth0}
	for range 2 { // the second time is no error
		if err := c.SetRoute(multicast); err != nil {
			t.Fatal(err)
		}
	}
	dump, err := c.Dump(Wanted{Routes: true, Neighbours: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Decode(dump)
	if err != nil {
		t.Fatal(err)
	}
	links, err := c.Links(Here)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(links, s.Links, comparePrefixes); diff != "" {
		t.Error("links (-want +got)\n", diff)
	}
	route := func(dst, gateway string, metric int) netstate.Route {
		r := netstate.Route{Destination: netip.MustParsePrefix(dst), Link: eth0, Metric: metric}
		if gateway != "" {
			r.Gateway = netip.MustParseAddr(gateway)
		}
		return r
	}
	want := []netstate.Route{
		route("0.0.0.0/0", "10.32.0.1", 0),
		route("10.32.0.0/22", "", 0),
		route("192.0.2.0/24", "10.32.0.1", 7),
		route("192.0.2.0/24", "10.32.0.2", 7),
		multicast,
		route("2001:db8::/32", "fd00::1", 9),
		route("fd00::/64", "", 256),
	}
	less := cmpopts.SortSlices(func(a, b netstate.Route) bool {
		if c := a.Destination.Addr().Compare(b.Destination.Addr()); c != 0 {
			return c < 0
		}
		return a.Gateway.Less(b.Gateway)
	})
	if diff := cmp.Diff(want, withoutLinkLocal(s.Routes), less, comparePrefixes); diff != "" {
		t.Error("routes (-want +got)\n", diff)
	}
	wantNeighbours := []netstate.Neighbour{
		{Address: netip.MustParseAddr("10.32.0.1"), MAC: mac.Address{2, 0, 0, 0, 0, 1}, Link: eth0, State: "permanent"},
		{Address: netip.MustParseAddr("fd00::1"), MAC: mac.Address{2, 0, 0, 0, 0, 1}, Link: eth0, State: "stale"},
	}
	lessN := cmpopts.SortSlices(func(a, b netstate.Neighbour) bool { return a.Address.Less(b.Address) })
	if diff := cmp.Diff(wantNeighbours, s.Neighbours, lessN, comparePrefixes); diff != "" {
		t.Error("neighbours (-want +got)\n", diff)
	}
}

func withoutLinkLocal(routes []netstate.Route) (out []netstate.Route) {
	for _, r := range routes {
		if !r.Destination.Addr().IsLinkLocalUnicast() {
			out = append(out, r)
		}
	}
	return out
}

func TestNamespaceID(t *testing.T) {
	host, crossed, plain := nstest.New(t), nstest.New(t), nstest.New(t)
	nstest.Veth(t, host, crossed, "host0") // has the kernel assign an id to crossed
	c := dial(t, host)
	seen := map[int]bool{}
	for _, ns := range []*nstest.NS{crossed, plain, host} {
		first, err := c.NamespaceID(ns.FD())
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.NamespaceID(ns.FD())
		if err != nil || again != first || seen[first] {
			t.Errorf("ids %d and %d, error %v, want one of its own each", first, again, err)
		}
		seen[first] = true
	}
}
