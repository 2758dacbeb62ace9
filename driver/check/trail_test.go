// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/internal/nstest"
)

// TestLost: by what was seen where it is known on which stretch a packet, or the answer to it, got lost.
func TestLost(t *testing.T) {
	without := func(t trail, unwatched ...place) trail {
		for _, p := range unwatched {
			t[p] = sighting{}
		}
		return t
	}
	for name, tc := range map[string]struct {
		trail trail
		on    stretch
		back  bool
	}{
		"nothing watched":              {trail{}, unseen, false},
		"never sent":                   {seen(0), unseen, false},
		"sender's link":                {seen(1), senderLink, false},
		"host":                         {seen(2), inHost, false},
		"receiver's link":              {seen(3), receiverLink, false},
		"receiver":                     {seen(4), inReceiver, false},
		"receiver's link, back":        {seen(5), receiverLink, true},
		"host, back":                   {seen(6), inHost, true},
		"sender's link, back":          {seen(7), senderLink, true},
		"sender":                       {seen(8), inSender, true},
		"host, ends alone watched":     {without(seen(2), fromInside, toInside), inHost, false},
		"beyond":                       {without(seen(2), toHost, toInside), beyond, false},
		"beyond, without the inside":   {without(seen(2), fromInside, toHost, toInside), beyond, false},
		"sender, the rest not watched": {without(seen(8), toHost, toInside), inSender, true},
		"receiver not watched inside":  {without(seen(3), toInside), unseen, false},
	} {
		if on, back := tc.trail.lost(); on != tc.on || back != tc.back {
			t.Errorf("%s: lost on stretch %d, back: %t, want %d, %t", name, on, back, tc.on, tc.back)
		}
	}
}

// TestWatch: what passes the ends is seen there, on the way there and back, and what gets lost is not.
func TestWatch(t *testing.T) {
	p := newPair(t)
	for name, tc := range map[string]struct {
		port        uint16
		rule        string // in the second namespace, of iptables
		small, conn stretch
	}{
		"all pass":        {80, "", inSender, inSender},
		"nobody listens":  {81, "", inSender, inSender},
		"TCP is dropped":  {80, "INPUT -p tcp -j DROP", inSender, inReceiver},
		"ICMP is dropped": {80, "INPUT -p icmp -j DROP", inReceiver, inSender},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.rule != "" {
				iptables(t, p.second, "-A "+tc.rule)
				defer iptables(t, p.second, "-D "+tc.rule)
			}
			trails := p.watched(t, "10.32.0.2", tc.port)
			for k, want := range map[kind]stretch{kindSmall: tc.small, kindFull: tc.small, kindConnect: tc.conn} {
				if on, _ := trails[k].lost(); on != want {
					t.Errorf("probe %d: lost on stretch %d, want %d: %+v", k, on, want, trails[k])
				}
			}
		})
	}
	for range 20 { // IPv6 may still look for duplicates of the second one's address
		all := p.watched(t, "fd00::2", 80)
		if all[kindSmall][fromInside].back && all[kindConnect][toInside].back {
			return
		}
	}
	t.Error("nothing is seen of IPv6")
}

func iptables(t *testing.T, ns *nstest.NS, args string) {
	t.Helper()
	ns.Do(t, func() error {
		out, err := exec.Command("iptables", strings.Fields(args)...).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("iptables %s: %w: %s", args, err, out)
		}
		return err
	})
}

// watched probes from the first namespace, and watches both.
func (p pair) watched(t *testing.T, to string, port uint16) [kinds]trail {
	t.Helper()
	address := netip.MustParseAddr(to)
	sockets, err := p.launcher.Probes(t.Context(), p.first.Path(), address.Is6())
	if err != nil {
		t.Fatal(err)
	}
	prober := newProber(sockets, address, port, 1500)
	defer prober.close()
	w := &watch{prober: prober}
	defer w.close()
	for place, end := range map[place]struct {
		ns   *nstest.NS
		link string
	}{fromInside: {p.first, "eth1"}, toInside: {p.second, "eth0"}} {
		socket, err := p.launcher.Packets(t.Context(), end.ns.Path())
		if err != nil {
			t.Fatal(err)
		}
		l := &capture.Link{Name: end.link, Socket: socket}
		w.links[place] = l
		end.ns.Do(t, func() error {
			link, err := netlink.LinkByName(end.link)
			if err == nil {
				l.Index = link.Attrs().Index
			}
			return err
		})
		if err := l.Hear(prober.filter(), 128); err != nil {
			t.Fatal(err)
		}
	}
	prober.probe(t.Context())
	return w.trails()
}
