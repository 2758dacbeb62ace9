// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// A broadcast goes to the hosts that have an endpoint on the network, once to each, and to no others.
func TestBroadcastReachesMembers(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	u := newUnderlay(t, false)
	here, there := u.newHost(1, nil, ipv6On...), u.newHost(2, nstest.New(t), ipv6On...)
	third := u.newHost(3, nstest.New(t), ipv6On...)
	one, two, other := here.start(11), there.start(12), there.start(13)
	o := here.overlay()
	here.set(o, there, third)
	s := u.sniff()
	broadcast := netip.MustParseAddr("10.40.0.255")
	receive := func(c *container) {
		t.Helper()
		conn := listenOn(t, c, broadcast, 4000)
		defer conn.Close()
		from := listenUDP(t, one.NS, one.Addresses[0])
		if _, err := from.WriteTo([]byte("all"), &net.UDPAddr{IP: broadcast.AsSlice(), Port: 4000}); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.ReadFrom(make([]byte, 10)); err != nil {
			t.Error(err)
		}
	}
	receive(two)
	receive(other)
	want := map[netip.Addr]int{there.vtep: 2}
	if got := s.read(t); !cmp.Equal(got.broadcasts, want, compareAddresses) {
		t.Errorf("seen on the underlay: %s", got)
	}
	third.start(14)
	here.set(o, there, third)
	receive(two)
	want = map[netip.Addr]int{there.vtep: 1, third.vtep: 1}
	if got := s.read(t); !cmp.Equal(got.broadcasts, want, compareAddresses) {
		t.Errorf("seen on the underlay: %s", got)
	}
}

func listenOn(t *testing.T, c *container, a netip.Addr, port uint16) (conn *net.UDPConn) {
	t.Helper()
	c.Do(t, func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
		return err
	})
	return conn
}

// An endpoint that moves to another host answers there at once, with its MAC or with another one.
func TestMovedEndpoint(t *testing.T) {
	for name, hw := range map[string]string{"with its MAC": "", "with another MAC": "02:00:00:00:00:77"} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			u := newUnderlay(t, false)
			here, there := u.newHost(1, nil, ipv6On...), u.newHost(2, nstest.New(t), ipv6On...)
			third := u.newHost(3, nstest.New(t), ipv6On...)
			one, before := here.start(11), there.start(12)
			o := here.overlay()
			here.set(o, there)
			there.program(here)
			passes(t, one, before, 0)
			passes(t, one, before, 1)

			there.containers = nil
			before.Do(t, func() error { return nstest.Run("ip link set eth0 down") })
			after := third.start(12)
			if hw != "" {
				after.Do(t, func() error {
					return nstest.Run("ip link set eth0 address "+hw, "ip address replace fd00:40::c/64 dev eth0 nodad")
				})
				after.MAC = mac.MustParse(hw)
			}
			third.program(here)
			removed := watchRemovals(t)
			start := time.Now()
			here.set(o, third)
			for i := range after.Addresses {
				passes(t, one, after, i)
			}
			t.Logf("reached after %v", time.Since(start))
			if !isProgrammed(here, third) {
				own, _ := here.rows()
				t.Errorf("entries: %v", own)
			}
			for _, n := range removed() {
				if hw == "" && mac.FromBytes(n.HardwareAddr) == after.MAC || n.Family != unix.AF_BRIDGE {
					t.Errorf("for a moment there was no %s", n.String())
				}
			}
		})
	}
}

// watchRemovals watches which rows go. It returns those that have gone so far, when it is asked.
func watchRemovals(t *testing.T) (removed func() []netlink.Neigh) {
	t.Helper()
	updates, done := make(chan netlink.NeighUpdate, 1000), make(chan struct{})
	if err := netlink.NeighSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(done) })
	return func() (out []netlink.Neigh) {
		for len(updates) > 0 {
			if u := <-updates; u.Type == unix.RTM_DELNEIGH {
				out = append(out, u.Neigh)
			}
		}
		return out
	}
}
