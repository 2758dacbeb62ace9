// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"math"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// TestListSockets: sockets that wait for others are listed, those that are connected are not.
func TestListSockets(t *testing.T) {
	ns := nstest.New(t)
	var listener net.Listener
	ns.Do(t, func() (err error) {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		listener, err = net.Listen("tcp4", "127.0.0.1:80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { listener.Close() })
		all, err := net.Listen("tcp", "[::]:8080")
		if err != nil {
			return err
		}
		t.Cleanup(func() { all.Close() })
		udp, err := net.ListenPacket("udp4", "127.0.0.1:53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = udp.Close() })
		client, err := net.Dial("tcp4", "127.0.0.1:80") // waits to be accepted
		if err != nil {
			return err
		}
		t.Cleanup(func() { client.Close() })
		connected, err := net.Dial("udp4", "127.0.0.1:53")
		if err != nil {
			return err
		}
		t.Cleanup(func() { connected.Close() })
		return nil
	})
	s, err := newLauncher(t).List(t.Context(), ns.Path(), protocol.List{Sockets: true})
	if err != nil {
		t.Fatal(err)
	}
	if !s.HasSockets {
		t.Skip("the kernel has no sock_diag")
	}
	uid := uint32(os.Getuid())
	want := []netstate.Socket{
		{Protocol: "tcp", Local: netip.MustParseAddrPort("127.0.0.1:80"), UID: uid, Queued: 1},
		{Protocol: "tcp", Local: netip.MustParseAddrPort("[::]:8080"), UID: uid},
		{Protocol: "udp", Local: netip.MustParseAddrPort("127.0.0.1:53"), UID: uid},
	}
	if diff := cmp.Diff(want, s.Sockets, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
}

// TestListRules: the rules of policy routing are listed, in their order.
func TestListRules(t *testing.T) {
	ns := nstest.New(t)
	from := netip.MustParsePrefix("10.32.0.0/22")
	ns.Do(t, func() error {
		rule := netlink.NewRule()
		rule.Family, rule.Priority, rule.Table, rule.Mark, rule.Invert = unix.AF_INET, 100, 7000, 0x10, true
		rule.Src = &net.IPNet{IP: from.Addr().AsSlice(), Mask: net.CIDRMask(from.Bits(), 32)}
		rule.IifName = "lo"
		refuse := netlink.NewRule()
		refuse.Family, refuse.Priority, refuse.Type = unix.AF_INET6, 200, unix.FR_ACT_UNREACHABLE
		some := netlink.NewRule() // what has a condition that is not read
		some.Family, some.Priority, some.Table = unix.AF_INET, math.MaxUint32, math.MaxUint32
		some.IPProto = unix.IPPROTO_TCP
		suppress, mask := netlink.NewRule(), uint32(0xff)
		suppress.Family, suppress.Priority, suppress.Table = unix.AF_INET, 300, unix.RT_TABLE_MAIN
		suppress.SuppressPrefixlen, suppress.Mask = 0, &mask
		return errors.Join(netlink.RuleAdd(rule), netlink.RuleAdd(refuse), netlink.RuleAdd(some),
			netlink.RuleAdd(suppress))
	})
	s, err := newLauncher(t).List(t.Context(), ns.Path(), protocol.List{Rules: true})
	if err != nil {
		t.Fatal(err)
	}
	want := []netstate.Rule{
		{Action: "lookup", Table: 255},
		{
			Priority: 100, Inverted: true, From: from, Mark: 0x10, Mask: math.MaxUint32, In: "lo", Action: "lookup",
			Table: 7000,
		},
		{Priority: 300, Mask: 0xff, Action: "lookup", Table: 254, Partial: true},
		{Priority: 32766, Action: "lookup", Table: 254},
		{Priority: 32767, Action: "lookup", Table: 253},
		{Priority: math.MaxUint32, Action: "lookup", Table: math.MaxUint32, Partial: true},
		{Action: "lookup", Table: 255, IPv6: true},
		{Priority: 200, Action: "unreachable", IPv6: true},
		{Priority: 32766, Action: "lookup", Table: 254, IPv6: true},
	}
	if diff := cmp.Diff(want, s.Rules, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Error("(-want +got)\n", diff)
	}
}

// TestListCounters: links are listed with what they have counted.
func TestListCounters(t *testing.T) {
	ns := nstest.New(t)
	ns.Do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		udp, err := net.Dial("udp4", "127.0.0.1:9")
		if err != nil {
			return err
		}
		defer udp.Close()
		_, err = udp.Write(make([]byte, 972)) // with its headers 1,000 bytes of IPv4, and 14 of Ethernet
		return err
	})
	s, err := newLauncher(t).List(t.Context(), ns.Path(), protocol.List{})
	if err != nil {
		t.Fatal(err)
	}
	// The packet, and the answer that nobody is there.
	if c := s.Links[0].Counters; c == nil || c.TxPackets != 2 || c.RxPackets != 2 || c.RxBytes < 1014 {
		t.Errorf("counters %+v, want two packets of at least 1014 bytes", c)
	}
}
