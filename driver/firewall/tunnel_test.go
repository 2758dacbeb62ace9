// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

const tunnelPort, otherPort = 6784, 6785

// tunnelOf is that of the router's host on its uplink, with other hosts of these numbers there.
func tunnelOf(v family, hosts ...int) Tunnel {
	t := Tunnel{Port: tunnelPort, Local: routedAddr(v, "uplink", 1).Addr()}
	for _, n := range hosts {
		t.Hosts = append(t.Hosts, routedAddr(v, "uplink", n).Addr())
	}
	return t
}

// newTunnelRouter returns a router with an uplink on which there are the addresses 2 and 3, and whose host translates
// what leaves and accepts all.
func newTunnelRouter(t *testing.T, backend string) router {
	t.Helper()
	r := newRouter(t)
	for _, v := range families {
		r["uplink"].Do(t, func() error {
			eth0, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return netlink.AddrAdd(eth0, usable(routedAddr(v, "uplink", 3)))
		})
	}
	for _, cmd := range commands(backend) {
		shell(t, strings.ReplaceAll("CMD -A INPUT -j ACCEPT; CMD -A FORWARD -j ACCEPT\n"+
			"CMD -t nat -A POSTROUTING -o puplink -j MASQUERADE", "CMD", cmd))
	}
	return r
}

// sends fails the test unless a datagram from an address of a network arrives at a port of the host itself or, for
// another address, of the uplink's, as wanted.
func (r router) sends(t *testing.T, network string, from, to netip.Addr, port uint16, want bool) {
	t.Helper()
	var there net.PacketConn
	listen := func() (err error) {
		there, err = net.ListenPacket("udp", netip.AddrPortFrom(to, port).String())
		return err
	}
	if err := listen(); err != nil {
		r["uplink"].Do(t, listen)
	}
	defer func() { _ = there.Close() }()
	if got := r.gets(t, network, from, there, want); got != want {
		t.Errorf("what %s on %s sends to port %d of %s arrives: %t, want %t", from, network, port, to, got, want)
	}
}

// TestTunnel: VXLAN packets are taken from the other hosts alone, at the address that is the tunnel's, and containers
// can send none, neither to this host nor, with its address, to another one.
func TestTunnel(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		r := newTunnelRouter(t, backend)
		for _, v := range families {
			f, _ := newFirewall(t)
			must(t, f.SetTunnel(t.Context(), tunnelOf(v, 2)))
			must(t, f.Set(t.Context(), withGateways()))
			here, host, stranger := routedAddr(v, "uplink", 1).Addr(), routedAddr(v, "uplink", 2).Addr(),
				routedAddr(v, "uplink", 3).Addr()
			r.sends(t, "uplink", host, here, tunnelPort, true)
			r.sends(t, "uplink", stranger, here, tunnelPort, false)
			r.sends(t, "uplink", stranger, here, otherPort, true)
			r.sends(t, "uplink", host, routedAddr(v, "wvg-1", 1).Addr(), tunnelPort, false)
			for _, network := range []string{"wvg-1", "br-0123456789ab"} {
				from := routedAddr(v, network, 2).Addr()
				for _, to := range []netip.Addr{here, host} {
					r.sends(t, network, from, to, tunnelPort, false)
					r.sends(t, network, from, to, otherPort, true)
				}
				r.sends(t, network, from, stranger, tunnelPort, true) // other people's tunnels
			}

			must(t, f.SetTunnel(t.Context(), tunnelOf(v, 3))) // one has come, and one has gone
			r.sends(t, "uplink", stranger, here, tunnelPort, true)
			r.sends(t, "uplink", host, here, tunnelPort, false)

			must(t, f.SetTunnel(t.Context(), Tunnel{}))
			r.sends(t, "uplink", host, here, tunnelPort, true)
		}
	})
}

// TestTunnelBetweenHosts: a machine that is the router between hosts of its cluster lets their packets pass.
func TestTunnelBetweenHosts(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newTunnelRouter(t, "nft")
	for _, v := range families {
		f, _ := newFirewall(t)
		tunnel := tunnelOf(v, 2)
		tunnel.Hosts = append(tunnel.Hosts, routedAddr(v, "mine", 2).Addr())
		must(t, f.Set(t.Context(), nil))
		must(t, f.SetTunnel(t.Context(), tunnel))
		to := routedAddr(v, "uplink", 2).Addr()
		r.sends(t, "mine", routedAddr(v, "mine", 2).Addr(), to, tunnelPort, true)
		r.sends(t, "wvg-1", routedAddr(v, "wvg-1", 2).Addr(), to, tunnelPort, false)
	}
}

// TestRunKeepsTheTunnel, whatever is done to its table, and without a network.
func TestRunKeepsTheTunnel(t *testing.T) {
	for _, damage := range []string{
		"nft flush ruleset", "nft delete table ip weave-aa", "nft flush table ip weave-aa",
		"nft delete rule ip weave-aa input " +
			"handle $(nft -a list chain ip weave-aa input | sed -n 's/.*saddr.*handle //p')",
	} {
		t.Run(damage, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			f, _ := newFirewall(t)
			must(t, f.Set(t.Context(), nil))
			must(t, f.SetTunnel(t.Context(), tunnelOf(ipv4, 2, 3)))
			start(t, f)
			listed := func() string {
				out, _ := exec.Command("nft", "list", "table", "ip", "weave-aa").Output() // fails while there is none
				return string(out)
			}
			before := listed()
			if strings.Contains(before, " nat ") || !strings.Contains(before, "10.18.5.3") {
				t.Errorf("the table is:\n%s\nwant the hosts in it, and no translation", before)
			}
			shell(t, damage)
			eventually(t, "the rules are back", func() bool { return listed() == before })
			if out, err := exec.Command("nft", "delete", "element", "ip", "weave-aa", hostsSet, "{ 10.18.5.3 }").
				CombinedOutput(); err == nil {
				t.Errorf("the set can be changed: %s", out)
			}
		})
	}
}

// TestTunnelOfManyHosts: there is room for ever so many, and none is no error. A family that the mode leaves out has no
// rules.
func TestTunnelOfManyHosts(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	many := func(v family) []netip.Addr {
		var out []netip.Addr
		for i := range 5000 {
			a := fmt.Sprintf("11.%d.%d.1", i/250, i%250)
			if v == ipv6 {
				a = fmt.Sprintf("fd00::%x", i+2)
			}
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), nil))
	for _, v := range families {
		tunnel := tunnelOf(v)
		must(t, f.SetTunnel(t.Context(), tunnel)) // alone in the cluster
		tunnel.Hosts = many(v)
		must(t, f.SetTunnel(t.Context(), tunnel))
		name := map[family]string{ipv4: "ip", ipv6: "ip6"}[v]
		listed := run(t, "", "nft", "list", "set", name, "weave-aa", hostsSet)
		if got := strings.Count(listed, ",") + 1; got != len(tunnel.Hosts) {
			t.Errorf("%s: the set has %d hosts, want %d", v, got, len(tunnel.Hosts))
		}
	}
	off, _ := newFirewallWith(t, Options{StateID: "bb", Mode: IPv4Only})
	must(t, off.Set(t.Context(), nil))
	must(t, off.SetTunnel(t.Context(), tunnelOf(ipv6, 2)))
	if all := tables(t); strings.Contains(all, "weave-bb") {
		t.Errorf("tables:\n%swant none of the mode that leaves IPv6 out", all)
	}
}

func TestTunnelNormal(t *testing.T) {
	addr := netip.MustParseAddr
	got := Tunnel{Port: 1, Local: addr("::ffff:192.0.2.1"), Hosts: []netip.Addr{
		addr("192.0.2.3"), addr("::ffff:192.0.2.2"), addr("2001:db8::2"), addr("192.0.2.1"), addr("192.0.2.3"), {},
	}}.normal()
	if want := []netip.Addr{addr("192.0.2.2"), addr("192.0.2.3")}; !slices.Equal(got.Hosts, want) ||
		got.Local != addr("192.0.2.1") {
		t.Errorf("normal() = %v, want the hosts %v", got, want)
	}
}

// TestHostTakesNoProbes: what comes out of the link of the probes for all hosts reaches no socket of this one.
func TestHostTakesNoProbes(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	w := newWire(t, "weave-probe")
	shell(t, "ip addr add 172.18.0.1/16 dev weave-probe") // what is from nowhere and for all hosts needs none
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), nil))
	const all = "172.18.255.255"
	if !w.reachesHost(t, all, true) {
		t.Fatal("without rules nothing reaches the host: the test shows nothing")
	}
	tunnel := tunnelOf(ipv6, 2)
	tunnel.Probes = "weave-probe"
	must(t, f.SetTunnel(t.Context(), tunnel))
	if w.reachesHost(t, all, false) {
		t.Error("the host takes what comes out of the link of the probes")
	}
}
