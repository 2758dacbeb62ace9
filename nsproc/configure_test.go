// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/announce"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

func newLauncher(t *testing.T) *launch.Launcher {
	t.Helper()
	l, err := launch.New(launch.Options{Path: nstest.Nsproc(t), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A container on two networks gets one multicast route out of each link, however often it is configured.
func TestMulticast(t *testing.T) {
	l := newLauncher(t)
	host, ns := nstest.New(t), nstest.New(t)
	first, firstMAC := nstest.Veth(t, host, ns, "host0")
	rename(t, ns, "eth0", "eth7")
	second, secondMAC := nstest.Veth(t, host, ns, "host1")
	for range 2 {
		for _, c := range []protocol.Configure{{Peer: first, MAC: firstMAC}, {Peer: second, MAC: secondMAC}} {
			c.Multicast = true
			if skipped, err := l.Configure(t.Context(), ns.Path(), c); err != nil || skipped != nil {
				t.Fatalf("skipped %q, error %v", skipped, err)
			}
		}
	}
	s, err := l.List(t.Context(), ns.Path(), protocol.List{Routes: true})
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]int{} // peer to metric
	for _, r := range s.Routes {
		for _, link := range s.Links {
			if r.Destination == multicast && link.Index == r.Link {
				got[link.Peer] += r.Metric - link.Index
			}
		}
	}
	if diff := cmp.Diff(map[int]int{first: multicastMetric, second: multicastMetric}, got); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
}

func TestAnnounce(t *testing.T) {
	l := newLauncher(t)
	host, ns := nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, host, ns, "host0", "10.32.0.9/22", "fd00::9/64")
	frames := capture(t, host, index)
	skipped, err := l.Configure(t.Context(), ns.Path(), protocol.Configure{
		Peer: index, MAC: hwaddr, Announce: true,
		Addresses: []netip.Prefix{
			netip.MustParsePrefix("10.32.0.9/22"), netip.MustParsePrefix("10.32.0.77/22"),
			netip.MustParsePrefix("fd00::9/64"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"announce 10.32.0.77: not on eth0"}, skipped); diff != "" {
		t.Error("skipped (-want +got)\n", diff)
	}
	want := map[string]bool{
		string(announce.Frame(hwaddr, netip.MustParseAddr("10.32.0.9"))): true,
		string(announce.Frame(hwaddr, netip.MustParseAddr("fd00::9"))):   true,
	}
	for deadline := time.Now().Add(10 * time.Second); len(want) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of the announcements did not arrive", len(want))
		}
		delete(want, string(frames()))
	}
}

// A neighbour that knows another MAC for the addresses replaces it, so the kernel accepts the announcements'
// checksum, hop limit and options.
func TestAnnouncementUpdatesNeighbours(t *testing.T) {
	l := newLauncher(t)
	host, ns := nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, host, ns, "host0", "10.32.0.9/22", "fd00::9/64")
	host.Do(t, func() error {
		for _, args := range [][]string{
			{"address", "add", "10.32.0.1/22", "dev", "host0"},
			{"address", "add", "fd00::1/64", "dev", "host0", "nodad"},
			{"neighbour", "replace", "10.32.0.9", "lladdr", "02:00:00:00:00:01", "nud", "stale", "dev", "host0"},
			{"neighbour", "replace", "fd00::9", "lladdr", "02:00:00:00:00:01", "nud", "stale", "dev", "host0"},
		} {
			if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %v: %w: %s", args, err, out)
			}
		}
		return nil
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		// Several times, since the kernel ignores changes that follow each other within a second (locktime).
		_, err := l.Configure(t.Context(), ns.Path(), protocol.Configure{Peer: index, MAC: hwaddr, Announce: true,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.32.0.9/22"), netip.MustParsePrefix("fd00::9/64")}})
		if err != nil {
			t.Fatal(err)
		}
		var s *netstate.Snapshot
		host.Do(t, func() (err error) {
			s, err = snapshot()
			return err
		})
		known := map[string]mac.Address{}
		for _, n := range s.Neighbours {
			known[n.Address.String()] = n.MAC
		}
		if known["10.32.0.9"] == hwaddr && known["fd00::9"] == hwaddr {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the neighbour still has %v, want %s", known, hwaddr)
		}
	}
}

// A link that has another peer or another MAC is not configured.
func TestNoContainerEnd(t *testing.T) {
	l := newLauncher(t)
	host, ns := nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, host, ns, "host0")
	for name, c := range map[string]protocol.Configure{
		"another peer": {Peer: index + 1, MAC: hwaddr},
		"another MAC":  {Peer: index, MAC: mac.MustParse("02:00:00:00:00:01")},
	} {
		c.Multicast = true
		_, err := l.Configure(t.Context(), ns.Path(), c)
		var refusal *protocol.Error
		if !errors.Is(err, syscall.ENODEV) || !errors.As(err, &refusal) {
			t.Errorf("%s: got error %v, want nsproc's ENODEV", name, err)
		}
	}
	if hasMulticast(t, ns) {
		t.Error("a route was set")
	}
}

func TestContainerEnd(t *testing.T) {
	links := []netstate.Link{
		{Index: 2, Name: "br", Kind: "bridge", Peer: 7, MAC: mac.MustParse("02:00:00:00:00:01")},
		{Index: 3, Name: "gw", Kind: "veth", Peer: 7, MAC: mac.MustParse("02:00:00:00:00:02")},
		{Index: 4, Name: "eth0", Kind: "veth", Peer: 7, MAC: mac.MustParse("02:00:00:00:00:01")},
	}
	got, err := containerEnd(links, protocol.Configure{Peer: 7, MAC: mac.MustParse("02:00:00:00:00:01")})
	if err != nil || got.Index != 4 {
		t.Errorf("got %+v and error %v, want eth0", got, err)
	}
}

func TestFrames(t *testing.T) {
	for _, tc := range []struct{ address, want string }{
		{"10.32.0.9", "ffffffffffff 02000000000a 0806" + // to all
			"0001 0800 06 04 0001 02000000000a 0a200009 000000000000 0a200009"},
		{"fd00::9", "333300000001 02000000000a 86dd" + // to all nodes
			"60000000 0020 3a ff fd000000000000000000000000000009 ff020000000000000000000000000001" +
			"88 00 5a82 20000000 fd000000000000000000000000000009 0201 02000000000a"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(tc.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got := announce.Frame(mac.MustParse("02:00:00:00:00:0a"), netip.MustParseAddr(tc.address))
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\ngot  %x\nwant %x", tc.address, got, want)
		}
	}
}

// capture returns a function that returns the next frame that a link receives, nil if there is none for a while.
func capture(t *testing.T, ns *nstest.NS, link int) func() []byte {
	t.Helper()
	var fd int
	ns.Do(t, func() (err error) {
		all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		timeout := unix.Timeval{Usec: 200_000}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link})
	})
	return func() []byte {
		b := make([]byte, 2048)
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return nil
		}
		return b[:n]
	}
}

func rename(t *testing.T, ns *nstest.NS, from, to string) {
	t.Helper()
	ns.Do(t, func() error {
		out, err := exec.CommandContext(t.Context(), "ip", "link", "set", "dev", from, "name", to).CombinedOutput()
		if err != nil {
			return fmt.Errorf("rename %s: %w: %s", from, err, out)
		}
		return nil
	})
}

// The container that is its network's router gets the gateways' addresses, however often it is configured, and says so.
func TestGateways(t *testing.T) {
	l := newLauncher(t)
	host, ns := nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, host, ns, "host0", "10.32.0.9/22", "fd00::9/64")
	frames := capture(t, host, index)
	gateways := []netip.Addr{netip.MustParseAddr("10.32.0.1"), netip.MustParseAddr("fd00::1")}
	for range 2 {
		request := protocol.Configure{Peer: index, MAC: hwaddr, Gateways: gateways}
		if skipped, err := l.Configure(t.Context(), ns.Path(), request); err != nil || skipped != nil {
			t.Fatalf("skipped %q, error %v", skipped, err)
		}
	}
	s, err := l.List(t.Context(), ns.Path(), protocol.List{})
	if err != nil {
		t.Fatal(err)
	}
	for _, gateway := range gateways {
		own := netip.PrefixFrom(gateway, gateway.BitLen())
		isLink := func(l netstate.Link) bool { return l.Peer == index && slices.Contains(l.Addresses, own) }
		if !slices.ContainsFunc(s.Links, isLink) {
			t.Errorf("no address %s: %+v", own, s.Links)
		}
	}
	want := map[string]bool{}
	for _, gateway := range gateways {
		want[string(announce.Frame(hwaddr, gateway))] = true
	}
	for deadline := time.Now().Add(10 * time.Second); len(want) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of the announcements did not arrive", len(want))
		}
		delete(want, string(frames()))
	}
}

// TestLimit: a default route gets the MTU, also one that is made only after the request.
func TestLimit(t *testing.T) {
	l := newLauncher(t)
	host, ns := nstest.New(t), nstest.New(t)
	index, _ := nstest.Veth(t, host, ns, "host0", "10.32.0.9/22", "fd00::9/64")
	routes := func(command string) {
		t.Helper()
		out, err := exec.Command("nsenter", "--net="+ns.Path(), "sh", "-ec", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	want := func(when string, mtus ...int) {
		t.Helper()
		s, err := l.List(t.Context(), ns.Path(), protocol.List{Routes: true})
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, r := range s.Routes {
			if r.Destination.Bits() == 0 {
				got = append(got, r.MTU)
			}
		}
		if !slices.Equal(got, mtus) {
			t.Errorf("%s: MTUs %d, want %d", when, got, mtus)
		}
	}
	done := make(chan error)
	go func() { done <- l.Limit(t.Context(), ns.Path(), protocol.Limit{Peer: index, MTU: 1400}) }()
	routes("ip route add default via 10.32.0.1; ip -6 route add default via fd00::1")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want("routes that came later", 1400, 1400)
	if err := l.Limit(t.Context(), ns.Path(), protocol.Limit{Peer: index, MTU: 1270}); err != nil {
		t.Error(err)
	}
	want("a smaller MTU, too small for IPv6", 1270, 1400)
	routes("ip route del default via 10.32.0.1")
	if err := l.Limit(t.Context(), ns.Path(), protocol.Limit{Peer: index, MTU: 1400}); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("without a route: %v, want EAGAIN", err)
	}
	err := l.Limit(t.Context(), ns.Path(), protocol.Limit{Peer: index + 1, MTU: 1400})
	if !errors.Is(err, syscall.ENODEV) {
		t.Errorf("without the link: %v, want ENODEV", err)
	}
}

// TestIPv6Gateway: the default route comes after one of Docker's, and a container without IPv6 goes without it.
func TestIPv6Gateway(t *testing.T) {
	l := newLauncher(t)
	host, ns := nstest.New(t), nstest.New(t)
	index, hwaddr := nstest.Veth(t, host, ns, "host0", "10.32.0.9/22", "fd00::9/64")
	request := protocol.Configure{Peer: index, MAC: hwaddr, IPv6Gateway: netip.MustParseAddr("fd00::1")}
	for range 2 {
		if skipped, err := l.Configure(t.Context(), ns.Path(), request); err != nil || skipped != nil {
			t.Fatalf("skipped %q, error %v", skipped, err)
		}
	}
	ns.Do(t, func() error { return exec.Command("ip", "-6", "route", "add", "default", "via", "fd00::2").Run() })
	metrics := func() map[string]int { // of default routes, by gateway
		t.Helper()
		s, err := l.List(t.Context(), ns.Path(), protocol.List{Routes: true})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]int{}
		for _, r := range s.Routes {
			if r.Destination.Bits() == 0 {
				out[r.Gateway.String()] = r.Metric
			}
		}
		return out
	}
	if got := metrics(); len(got) != 2 || got["fd00::1"] <= got["fd00::2"] {
		t.Errorf("metrics of default routes: %v", got)
	}
	for range 2 { // the second time it is gone already
		none := protocol.Configure{Peer: index, MAC: hwaddr}
		if skipped, err := l.Configure(t.Context(), ns.Path(), none); err != nil || skipped != nil {
			t.Fatalf("without a gateway: skipped %q, error %v", skipped, err)
		}
	}
	if got := metrics(); len(got) != 1 || got["fd00::2"] == 0 {
		t.Errorf("metrics of default routes: %v, want that of Docker's alone", got)
	}
	ns.Do(t, func() error { return exec.Command("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1").Run() })
	request.Gateways = []netip.Addr{netip.MustParseAddr("fd00::1"), netip.MustParseAddr("10.32.0.1")}
	if skipped, err := l.Configure(t.Context(), ns.Path(), request); err != nil || len(skipped) != 2 {
		t.Errorf("without IPv6: skipped %q, error %v", skipped, err)
	}
	s, err := l.List(t.Context(), ns.Path(), protocol.List{})
	if err != nil {
		t.Fatal(err)
	}
	isAdded := func(l netstate.Link) bool { return slices.Contains(l.Addresses, netip.MustParsePrefix("10.32.0.1/32")) }
	if !slices.ContainsFunc(s.Links, isAdded) {
		t.Errorf("without IPv6 the router lacks the IPv4 gateway's address: %+v", s.Links)
	}
}
