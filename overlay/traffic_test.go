// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/announce"
	"github.com/weaveplugin/weave/internal/nstest"
)

// hostApart sets up a bridge as that of a network without a gateway, with IPv6 off as on a network of one host; ipv6On
// sets it up so that the kernel takes entries for IPv6, too.
var (
	hostApart = []string{
		"sysctl -qw net.ipv6.conf.wv-app.disable_ipv6=1", "sysctl -qw net.ipv4.conf.wv-app.arp_ignore=8",
		"sysctl -qw net.ipv4.conf.wv-app.rp_filter=1",
	}
	ipv6On = []string{
		"ip link set wv-app addrgenmode none", "sysctl -qw net.ipv6.conf.wv-app.accept_ra=0",
		"sysctl -qw net.ipv4.conf.wv-app.arp_ignore=8", "sysctl -qw net.ipv4.conf.wv-app.rp_filter=1",
	}
)

// Containers on two hosts reach each other over IPv4 and IPv6, with frames as large as the MTU says, and the bridges
// answer for the other host's containers.
func TestTraffic(t *testing.T) {
	for name, setup := range map[string][]string{"IPv6 off": hostApart, "IPv6 on": ipv6On} {
		for _, underlay := range []string{"IPv4", "IPv6"} {
			for _, frames := range []string{"tagged", "plain"} {
				t.Run(name+"/underlay "+underlay+"/"+frames, func(t *testing.T) {
					if !nstest.Reexec(t) {
						checkTraffic(t, setup, underlay == "IPv6", frames == "tagged")
					}
				})
			}
		}
	}
}

func checkTraffic(t *testing.T, setup []string, underlayIPv6, tagged bool) {
	u := newUnderlay(t, underlayIPv6)
	here, there := u.newHost(1, nil, setup...), u.newHost(2, nstest.New(t), setup...)
	one, two := here.start(11), there.start(12)
	if tagged {
		programs := loadPrograms(t)
		here.tag(programs)
		there.tag(programs)
	}
	isOff := &setup[0] == &hostApart[0] // the kernel takes no entries for IPv6 then
	for _, problem := range []string{here.program(there), there.program(here)} {
		if strings.Contains(problem, "disable_ipv6") != isOff || problem != "" && !isOff {
			t.Errorf("a problem: %q", problem)
		}
	}
	s := u.sniff()
	for i := range one.Addresses {
		passes(t, one, two, i)
		passes(t, two, one, i)
		largestPasses(t, here, one, two, i)
	}
	got := s.read(t)
	t.Log(got)
	if got.arp > 0 || (got.solicitations > 0) != isOff {
		t.Errorf("the bridges do not answer for remote containers: %s", got)
	}
	if got.tagged > 0 || got.fragments > 0 || got.largest != underlayMTU {
		t.Errorf("seen on the underlay: %s", got)
	}
}

func passes(t *testing.T, from, to *container, i int) {
	t.Helper()
	if err := traffic(t, 10*time.Second, from, to, i); err != nil {
		t.Error(err)
	}
}

func traffic(t *testing.T, limit time.Duration, from, to *container, i int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return nstest.Traffic(ctx, t, nstest.Place{NS: from.NS, Addr: from.Addresses[i]},
		nstest.Place{NS: to.NS, Addr: to.Addresses[i]})
}

// largestPasses fails the test if a datagram that fills a frame, and must not be fragmented, does not come back.
func largestPasses(t *testing.T, h *host, from, to *container, i int) {
	t.Helper()
	headers := ipv4Header + udpHeader
	if to.Addresses[i].Is6() {
		headers = ipv6Header + udpHeader
	}
	data := bytes.Repeat([]byte{'w'}, h.device().MTU-headers)
	there, here := listenUDP(t, to.NS, to.Addresses[i]), listenUDP(t, from.NS, from.Addresses[i])
	err := errors.Join(
		there.SetDeadline(time.Now().Add(5*time.Second)), here.SetDeadline(time.Now().Add(5*time.Second)),
		dontFragment(here), dontFragment(there))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := here.WriteTo(data, there.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, underlayMTU)
	n, addr, err := there.ReadFrom(buf)
	if err != nil || n != len(data) {
		t.Fatalf("%d bytes came, and %v", n, err)
	}
	if _, err := there.WriteTo(buf[:n], addr); err != nil {
		t.Fatal(err)
	}
	if n, _, err = here.ReadFrom(buf); err != nil || n != len(data) {
		t.Fatalf("%d bytes came back, and %v", n, err)
	}
}

func listenUDP(t *testing.T, ns *nstest.NS, a netip.Addr) (conn *net.UDPConn) {
	t.Helper()
	ns.Do(t, func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

func dontFragment(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		if conn.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
			set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
			return
		}
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
	})
	return errors.Join(err, set)
}

// TestForgedMAC: a container that sends frames with the MAC of one on another host does not get its traffic.
func TestForgedMAC(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	u := newUnderlay(t, false)
	here, there := u.newHost(1, nil, ipv6On...), u.newHost(2, nstest.New(t), ipv6On...)
	one, forger, two := here.start(11), here.start(12), there.start(13)
	here.program(there)
	there.program(here)
	passes(t, one, two, 0)
	forger.Do(t, func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return announce.Send(link.Index, [][]byte{announce.Frame(two.MAC, netip.MustParseAddr("10.40.0.99"))})
	})
	passes(t, one, two, 0)
	here.program() // the host is as it was, and the row goes with the endpoint
	if own, _ := here.rows(); len(own) != 0 {
		t.Errorf("rows %v are left", own)
	}
}
