// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// router is a host, the namespace of this process, between networks: each has one other member, and the host the first
// address of its subnet.
type router map[string]*nstest.NS

// The networks of a router, and the third and the second part of their IPv4 and IPv6 subnets.
var routed = map[string]int{"wvg-1": 1, "wvg-2": 2, "mine": 3, "br-0123456789ab": 4, "uplink": 5}

func routedAddr(v family, network string, host int) netip.Prefix {
	if v == ipv6 {
		return netip.MustParsePrefix(fmt.Sprintf("fd18:0:0:%d::%d/64", routed[network], host))
	}
	return netip.MustParsePrefix(fmt.Sprintf("10.18.%d.%d/24", routed[network], host))
}

func newRouter(t *testing.T) router {
	t.Helper()
	filterBridges(t)
	r := router{}
	for network := range routed {
		r[network] = nstest.New(t)
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "p" + network[max(0, len(network)-12):]},
			PeerName:  "eth0", PeerNamespace: netlink.NsFd(r[network].FD()),
		}
		must(t, netlink.LinkAdd(veth))
		link := netlink.Link(veth)
		if network != "uplink" {
			link = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: network}}
			must(t, netlink.LinkAdd(link))
			must(t, netlink.LinkSetMaster(veth, link))
			must(t, netlink.LinkSetUp(link))
		}
		must(t, netlink.LinkSetUp(veth))
		for _, v := range families {
			must(t, netlink.AddrAdd(link, usable(routedAddr(v, network, 1))))
			r[network].Do(t, func() error {
				eth0, err := netlink.LinkByName("eth0")
				if err != nil {
					return err
				}
				gateway := routedAddr(v, network, 1).Addr()
				return errors.Join(netlink.LinkSetUp(eth0), netlink.AddrAdd(eth0, usable(routedAddr(v, network, 2))),
					netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: gateway.AsSlice()}))
			})
		}
	}
	for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		must(t, os.WriteFile("/proc/sys/net/"+path, []byte("1"), 0))
	}
	return r
}

// usable is an address that IPv6 does not check for duplicates first.
func usable(p netip.Prefix) *netlink.Addr {
	a, err := netlink.ParseAddr(p.String())
	if err != nil {
		panic(err)
	}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// check fails the test unless traffic from one network to another passes as wanted: "no", "yes", or "translated" if
// the destination sees another source.
func (r router) check(t *testing.T, v family, from, to, want string) {
	t.Helper()
	limit := deadline
	if want == "no" {
		limit = blocked
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	got := "no"
	err := nstest.Traffic(ctx, t, nstest.Place{NS: r[from], Addr: routedAddr(v, from, 2).Addr()},
		nstest.Place{NS: r[to], Addr: routedAddr(v, to, 2).Addr()})
	switch {
	case err == nil:
		got = "yes"
	case errors.Is(err, nstest.ErrTranslated):
		got = "translated"
	}
	if got != want {
		t.Errorf("%s from %s to %s passes: %s (%v), want %s", v, from, to, got, err, want)
	}
}

// withGateways returns the bridges of a router that are networks with gateways.
func withGateways() []Bridge {
	var out []Bridge
	for _, name := range []string{"wvg-1", "wvg-2", "mine"} {
		out = append(out, Bridge{
			Name: name, NetworkID: "n" + name[max(0, len(name)-1):], IPv6: true,
			Gateways: []Gateway{{routedAddr(ipv4, name, 1), true}, {routedAddr(ipv6, name, 1), true}},
		})
	}
	return out
}

// dockersRules are what Docker 20.10 has about its own bridges in the place of which weave's rules are.
const dockersRules = dockerForward + `
for cmd in iptables-BACKEND ip6tables-BACKEND; do
	$cmd -N DOCKER-ISOLATION-STAGE-2
	$cmd -A DOCKER-ISOLATION-STAGE-2 -o br-0123456789ab -j DROP
	$cmd -A DOCKER-FORWARD -i br-0123456789ab -j ACCEPT
	$cmd -A DOCKER-FORWARD -o br-0123456789ab -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
done
`

// internalRules are what Docker has about an internal network of its own.
const internalRules = dockerForward + `
iptables-BACKEND -N CHAIN
iptables-BACKEND -A CHAIN ! -s 10.18.4.0/24 -o br-0123456789ab -j DROP
ip6tables-BACKEND -N CHAIN
ip6tables-BACKEND -A CHAIN ! -s fd18:0:0:4::/64 -o br-0123456789ab -j DROP
`

// TestWayOut: from networks with gateways the way leads out, with the host's address, and nowhere else; nothing comes
// in that is no answer.
func TestWayOut(t *testing.T) {
	for name, script := range map[string]string{
		"no rules": "",
		"internal": strings.ReplaceAll(replaceBackend(internalRules, "nft"), "CHAIN", "DOCKER-INTERNAL"),
		"internal, legacy": strings.ReplaceAll(replaceBackend(internalRules, "legacy"), "CHAIN",
			"DOCKER-ISOLATION-STAGE-1"),
		"nft":               replaceBackend(dockersRules, "nft"),
		"legacy":            replaceBackend(dockersRules, "legacy"),
		"masquerade":        "iptables-nft -t nat -A POSTROUTING -j MASQUERADE",
		"a rule that drops": replaceBackend(foreignScripts["a last rule that drops"], "nft"),
	} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			r := newRouter(t)
			shell(t, script)
			f, _ := newFirewall(t)
			must(t, f.Set(t.Context(), withGateways()))
			start(t, f)
			for _, v := range families {
				for _, network := range []string{"wvg-1", "mine"} {
					r.check(t, v, network, "uplink", "translated")
					for other := range routed {
						if other != network {
							r.check(t, v, other, network, "no")
						}
					}
				}
				if strings.Contains(script, "br-0123456789ab") {
					r.check(t, v, "wvg-1", "br-0123456789ab", "no")
				}
			}
			must(t, f.Problem())
			if name == "no rules" {
				must(t, f.Set(t.Context(), nil))
				r.check(t, ipv4, "wvg-2", "wvg-1", "yes")
			}
		})
	}
}

// TestForgedSource: a container can't send with an address of another network, whose container would get the answer.
func TestForgedSource(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRouter(t)
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), withGateways()))
	for _, v := range families {
		forged := routedAddr(v, "wvg-2", 9)
		r["wvg-1"].Do(t, func() error {
			eth0, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(eth0, usable(forged))
		})
		own := routedAddr(v, "wvg-1", 2)
		for from, arrives := range map[netip.Addr]bool{own.Addr(): true, forged.Addr(): false} {
			if got := r.arrives(t, "wvg-1", from, routedAddr(v, "uplink", 2).Addr(), arrives); got != arrives {
				t.Errorf("what %s sends arrives: %t, want %t", from, got, arrives)
			}
		}
	}
}

// arrives reports whether a datagram from a network, with this source, arrives at an address outside, as is expected or
// not.
func (r router) arrives(t *testing.T, network string, from, to netip.Addr, expected bool) bool {
	t.Helper()
	var there net.PacketConn
	r["uplink"].Do(t, func() (err error) {
		there, err = net.ListenPacket("udp", netip.AddrPortFrom(to, 0).String())
		return err
	})
	defer func() { _ = there.Close() }()
	return r.gets(t, network, from, there, expected)
}

// gets reports whether a datagram from a network, with this source, gets to a socket, as is expected or not.
func (r router) gets(t *testing.T, network string, from netip.Addr, there net.PacketConn, expected bool) bool {
	t.Helper()
	r[network].Do(t, func() error {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: from.AsSlice()}}
		conn, err := d.Dial("udp", there.LocalAddr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	})
	must(t, there.SetReadDeadline(time.Now().Add(patience(expected))))
	_, _, err := there.ReadFrom(make([]byte, 1))
	return err == nil
}

// TestSameSubnetElsewhere: a network of the user's own with the subnet of a network with a gateway is not translated.
func TestSameSubnetElsewhere(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	w := newWire(t, "zz0")
	f, _ := newFirewall(t)
	gateways := []Gateway{
		{netip.MustParsePrefix("172.18.0.1/16"), true}, {netip.MustParsePrefix("fd18::1/64"), true},
	}
	must(t, f.Set(t.Context(), append(named("zz0"), Bridge{Name: "wvg-1", NetworkID: "n1", Gateways: gateways})))
	w.checkTraffic(t, "beside a gateway for the same subnet", true)
}

// TestDockersDoorIsShut: while Docker makes and removes its chain, the rules follow.
func TestDockersDoorIsShut(t *testing.T) {
	for _, backend := range iptablesBackends {
		t.Run(backend, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			r := newRouter(t)
			f, _ := newFirewall(t)
			must(t, f.Set(t.Context(), withGateways()))
			start(t, f)
			shell(t, replaceBackend(dockersRules, backend))
			for _, b := range f.backends {
				eventually(t, "rules are in place", func() bool { return inPlace(t, f, b) })
			}
			for _, v := range families {
				r.check(t, v, "wvg-1", "br-0123456789ab", "no")
				r.check(t, v, "wvg-1", "uplink", "translated")
			}
		})
	}
}
