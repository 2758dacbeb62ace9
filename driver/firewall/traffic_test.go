// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
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

// wire is a bridge with two ports, each of whose peers is in a namespace of its own. The bridge is in the namespace of
// this process, which has a default route, as a host does, and no way out.
type wire struct{ left, right *nstest.NS }

// addresses are those of both ends, by family.
var addresses = map[family][2]string{
	ipv4: {"172.18.0.2", "172.18.0.3"},
	ipv6: {"fd18::2", "fd18::3"},
}

func newWire(t *testing.T, bridge string) *wire {
	t.Helper()
	w := &wire{nstest.New(t), nstest.New(t)}
	filterBridges(t)
	shell(t, `
ip link add `+bridge+` type bridge mcast_snooping 0
ip link set `+bridge+` up
ip link add uplink type veth peer name far
ip link set uplink up
ip link set far up
ip addr add 192.0.2.1/24 dev uplink
ip addr add 2001:db8::1/64 dev uplink nodad
ip route add default via 192.0.2.2
ip -6 route add default via 2001:db8::2
`)
	br, err := netlink.LinkByName(bridge)
	must(t, err)
	for i, ns := range []*nstest.NS{w.left, w.right} {
		veth := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: []string{"port1", "port2"}[i], MasterIndex: br.Attrs().Index},
			PeerName:  "eth0", PeerNamespace: netlink.NsFd(ns.FD()),
		}
		must(t, netlink.LinkAdd(veth))
		must(t, netlink.LinkSetUp(veth))
		ns.Do(t, func() error {
			eth0, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			for v, bits := range map[family]string{ipv4: "/16", ipv6: "/64"} {
				addr, err := netlink.ParseAddr(addresses[v][i] + bits)
				if err != nil {
					return err
				}
				if v == ipv6 {
					addr.Flags = unix.IFA_F_NODAD
				}
				if err := netlink.AddrAdd(eth0, addr); err != nil {
					return err
				}
			}
			if err := netlink.LinkSetUp(eth0); err != nil {
				return err
			}
			all := &net.IPNet{IP: net.IPv4(224, 0, 0, 0), Mask: net.CIDRMask(4, 32)}
			return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: all})
		})
	}
	return w
}

// blocked is how long traffic is tried that is expected not to pass.
const blocked = 300 * time.Millisecond

// patience is how long traffic is tried that is expected to pass, or not to.
func patience(passes bool) time.Duration {
	if passes {
		return 10 * time.Second // on a busy machine
	}
	return blocked
}

func (w *wire) traffic(ctx context.Context, t *testing.T, v family) error {
	t.Helper()
	left, right := netip.MustParseAddr(addresses[v][0]), netip.MustParseAddr(addresses[v][1])
	return errors.Join(
		nstest.Traffic(ctx, t, nstest.Place{NS: w.left, Addr: left}, nstest.Place{NS: w.right, Addr: right}),
		nstest.Traffic(ctx, t, nstest.Place{NS: w.right, Addr: right}, nstest.Place{NS: w.left, Addr: left}),
	)
}

// checkTraffic fails the test unless fresh flows pass, or don't, both ways.
func (w *wire) checkTraffic(t *testing.T, when string, pass bool) {
	t.Helper()
	for _, v := range families {
		limit := deadline
		if !pass {
			limit = blocked
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err := w.traffic(ctx, t, v)
		cancel()
		if (err == nil) != pass {
			t.Errorf("%s: %s passes: %t (%v), want %t", when, v, err == nil, err, pass)
		}
	}
}

const dockerForward = `
for cmd in iptables-BACKEND ip6tables-BACKEND; do
	$cmd -P FORWARD DROP
	$cmd -N DOCKER-USER
	$cmd -A DOCKER-USER -j RETURN
	$cmd -A FORWARD -j DOCKER-USER
	$cmd -N DOCKER-FORWARD
	$cmd -A FORWARD -j DOCKER-FORWARD
done
`

// foreignScripts are what other programs and people have in their tables, each of which stops traffic between the ports
// of a bridge if nothing is done about it.
var foreignScripts = map[string]string{
	"Docker's policy":        dockerForward,
	"the policy, no Docker":  "for c in iptables-BACKEND ip6tables-BACKEND; do $c -P FORWARD DROP; done",
	"a last rule that drops": "for c in iptables-BACKEND ip6tables-BACKEND; do $c -A FORWARD -j DROP; done",
	"a last rule that rejects": `for c in iptables-BACKEND ip6tables-BACKEND; do
	$c -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
	$c -A FORWARD -m comment --comment "the rest" -j REJECT
done`,
	"masquerade of everything": `for c in iptables-BACKEND ip6tables-BACKEND; do
	$c -t nat -A POSTROUTING -j MASQUERADE
done`,
	"masquerade by subnet": `iptables-BACKEND -t nat -I POSTROUTING -s 172.16.0.0/12 ! -o eth0 -j MASQUERADE
ip6tables-BACKEND -t nat -I POSTROUTING -s fd00::/8 ! -o eth0 -j MASQUERADE`,
	"left over of docker_gwbridge": `gw=docker_gwbridge
iptables-BACKEND -t nat -A POSTROUTING -s 172.18.0.0/16 ! -o $gw -j MASQUERADE
ip6tables-BACKEND -t nat -A POSTROUTING -s fd18::/64 ! -o $gw -j MASQUERADE`,
	"redirection of everything": `for c in iptables-BACKEND ip6tables-BACKEND; do
	$c -t nat -A PREROUTING -p tcp -j REDIRECT --to-ports 1
done`,
	"masquerade in a table of nft": `
nft 'table inet mine { chain post { type nat hook postrouting priority srcnat; masquerade
}
}'`,
	"Docker 28's raw rules": `for a in 172.18.0.2 172.18.0.3; do
	iptables-BACKEND -t raw -A PREROUTING -d $a ! -i br-0 -j DROP
done
for a in fd18::2 fd18::3; do
	ip6tables-BACKEND -t raw -A PREROUTING -d $a ! -i br-0 -j DROP
done`,
	"Docker 29's raw rules": `
nft 'table ip docker-bridges { chain raw-PREROUTING { type filter hook prerouting priority raw
ip daddr { 172.18.0.2, 172.18.0.3 } iifname != { "br-0", "eth9" } counter drop comment "DROP DIRECT ACCESS"
}
}
table ip6 docker-bridges { chain raw-PREROUTING { type filter hook prerouting priority raw
ip6 daddr { fd18::2, fd18::3 } iifname != "br-0" counter drop comment "DROP DIRECT ACCESS"
}
}'`,
	"the legacy tables of a Docker that is gone": dockerForward + `
for c in iptables-legacy ip6tables-legacy; do $c -N DOCKER-USER || :; $c -N DOCKER || :; done`,
	"both back ends live": `for c in iptables-nft iptables-legacy ip6tables-nft ip6tables-legacy; do
	$c -P FORWARD DROP
done`,
}

// TestTrafficUnderForeignRules: whatever others have in their tables, what passes inside a network does.
func TestTrafficUnderForeignRules(t *testing.T) {
	for name, script := range foreignScripts {
		for _, backend := range iptablesBackends {
			for _, order := range []string{"rules first", "weave first"} {
				t.Run(name+"/"+backend+"/"+order, func(t *testing.T) {
					if nstest.Reexec(t) {
						return
					}
					w := newWire(t, "wv-1")
					f, _ := newFirewall(t)
					if order == "weave first" {
						must(t, f.Set(t.Context(), own(1)))
						start(t, f)
					}
					shell(t, replaceBackend(script, backend))
					if order == "rules first" {
						w.checkSome(t)
					}
					must(t, f.Set(t.Context(), own(1)))
					w.checkTraffic(t, "with weave's rules", true)
					must(t, f.Problem())
					if order == "weave first" {
						must(t, f.Set(t.Context(), nil))
						w.checkSome(t)
					}
				})
			}
		}
	}
}

// checkSome fails the test unless some traffic does not pass.
func (w *wire) checkSome(t *testing.T) {
	t.Helper()
	for _, v := range families {
		ctx, cancel := context.WithTimeout(t.Context(), blocked)
		err := w.traffic(ctx, t, v)
		cancel()
		if err != nil {
			return
		}
	}
	t.Error("the foreign rules stop nothing without weave's")
}

// TestForeignBridge: the user's own bridge gets its frames through, and the host answers on it as it did.
func TestForeignBridge(t *testing.T) {
	for _, name := range []string{"masquerade by subnet", "Docker's policy", "masquerade in a table of nft"} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			w := newWire(t, "br0")
			shell(t, "ip addr add 172.18.0.1/16 dev br0\n"+replaceBackend(foreignScripts[name], "nft"))
			w.checkSome(t)
			f, _ := newFirewall(t)
			must(t, f.Set(t.Context(), append(named("br0"), own(1)...)))
			w.checkTraffic(t, "with weave's rules", true)
			if !w.reachesHost(t, "172.18.0.1", true) {
				t.Error("the host does not answer on the user's own bridge any more")
			}
		})
	}
}

// TestHostTakesNothing: what a container sends to all, even without an address, reaches no socket of the host.
func TestHostTakesNothing(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	w := newWire(t, "wv-1")
	shell(t, "ip addr add 172.18.0.1/16 dev wv-1") // as if the host answered: the firewall alone has to do
	f, _ := newFirewall(t)
	for _, to := range []string{"172.18.0.1", "172.18.255.255", "224.0.0.1"} {
		must(t, f.Set(t.Context(), nil))
		if !w.reachesHost(t, to, true) {
			t.Fatalf("without rules nothing that is for %s reaches the host: the test shows nothing", to)
		}
		must(t, f.Set(t.Context(), own(1)))
		if w.reachesHost(t, to, false) {
			t.Errorf("what is for %s reaches the host", to)
		}
	}
	w.checkTraffic(t, "with weave's rules", true)
}

// reachesHost reports whether a datagram of a container's reaches a socket of the host, as is expected or not.
func (w *wire) reachesHost(t *testing.T, to string, expected bool) bool {
	t.Helper()
	host, err := net.ListenPacket("udp4", ":7777")
	must(t, err)
	defer func() { _ = host.Close() }()
	w.left.Do(t, func() error {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(addresses[ipv4][0])}}
		conn, err := d.Dial("udp4", to+":7777")
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	})
	must(t, host.SetReadDeadline(time.Now().Add(patience(expected))))
	_, _, err = host.ReadFrom(make([]byte, 1))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return err == nil
}

// replaceBackend makes a script one for a back end of iptables.
func replaceBackend(script, backend string) string {
	return strings.ReplaceAll(script, "BACKEND", backend)
}
