// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// gateway sets up a bridge as that of a network that has its gateway there.
var gateway = []string{
	"ip link set wv-app addrgenmode none", "ip address add 10.40.0.254/24 dev wv-app",
	"ip address add fd00:40::fe/64 dev wv-app nodad",
}

// The gateway has one address on all hosts: each container gets that of its own host.
func TestOwnGatewayAnswers(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	u := newUnderlay(t, false)
	here, there := u.newHost(1, nil, gateway...), u.newHost(2, nstest.New(t), gateway...)
	one, two := here.start(11), there.start(12)
	for _, problem := range []string{here.program(there), there.program(here)} {
		if problem != "" {
			t.Error(problem)
		}
	}
	s := u.sniff()
	gatewayOf := func(h *host, c *container, address string) (is, want mac.Address) {
		t.Helper()
		h.do(func() error {
			link, err := netlink.LinkByName(bridgeName)
			if err == nil {
				want = mac.FromBytes(link.Attrs().HardwareAddr)
			}
			return err
		})
		c.Do(t, func() error {
			if err := nstest.Run("ping -c 1 -W 5 " + address); err != nil {
				return err
			}
			neighbours, err := netlink.NeighList(0, netlink.FAMILY_ALL)
			for _, n := range neighbours {
				if n.IP.String() == address {
					is = mac.FromBytes(n.HardwareAddr)
				}
			}
			return err
		})
		return is, want
	}
	for _, address := range []string{"10.40.0.254", "fd00:40::fe"} {
		for h, c := range map[*host]*container{here: one, there: two} {
			if is, want := gatewayOf(h, c, address); is != want {
				t.Errorf("host %d: the container has %s for %s, want its own host's %s", h.number, is, address, want)
			}
		}
	}
	if got := s.read(t); got.arp > 0 || got.solicitations > 0 {
		t.Errorf("seen on the underlay: %s", got)
	}
	passes(t, one, two, 0)
	passes(t, two, one, 1)
}

// A gateway that looks for a container of its host asks on the other hosts, too: its ARP is not kept off the tunnel.
// The containers there note its MAC, so the gateways of all hosts need one MAC for each to stay with its own.
func TestGatewaysWithOneMACDoNotDisturb(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	setup := slices.Concat([]string{"ip link set wv-app address 02:00:00:00:00:fe"}, gateway)
	u := newUnderlay(t, false)
	here, there := u.newHost(1, nil, setup...), u.newHost(2, nstest.New(t), setup...)
	one, two := here.start(11), there.start(12)
	here.program(there)
	there.program(here)
	one.Do(t, func() error { return nstest.Run("ping -c 1 -W 5 10.40.0.254", "ping -c 1 -W 5 fd00:40::fe") })
	s := u.sniff()
	there.do(func() error { return nstest.Run("ping -c 1 -W 5 10.40.0.12", "ping -c 1 -W 5 fd00:40::c") })
	if got := s.read(t); got.arp == 0 {
		t.Errorf("the gateway's ARP is kept off the tunnel: %s; it needs no MAC of its own then", got)
	}
	one.Do(t, func() error {
		return nstest.Run("ping -c 3 -i 0.2 -W 5 10.40.0.254", "ping -c 3 -i 0.2 -W 5 fd00:40::fe")
	})
	if got := s.read(t); got.unicasts[there.vtep] > 0 {
		t.Errorf("packets for the own gateway went to the other host: %s", got)
	}
	passes(t, one, two, 0)
	passes(t, two, one, 1)
}
