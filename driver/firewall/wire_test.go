// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// wire is a bridge with two ports. Each port's peer is in a namespace of its own.
type wire struct {
	cmds      []string // the back end's, IPv4 and IPv6
	sender    *nstest.NS
	receivers map[string]*net.UDPConn // in the second namespace, by kind of traffic
}

const port = 7777

// destinations holds the address that the sender sends to for each kind of traffic.
var destinations = map[string]string{
	"IPv4": "10.99.0.2", "IPv6": "fd99::2", "broadcast": "10.99.0.255",
	"IPv4 multicast": "239.1.2.3", "IPv6 multicast": "ff15::1234%eth0",
}

// newWire makes the bridge in the namespace of this process. br_netfilter hands its frames to the back end, where a
// rule at the end of FORWARD counts those that no rule has accepted.
func newWire(t *testing.T, backend, bridge string) *wire {
	t.Helper()
	w := &wire{cmds: families(backend), sender: nstest.New(t), receivers: map[string]*net.UDPConn{}}
	for _, name := range []string{"bridge-nf-call-iptables", "bridge-nf-call-ip6tables"} {
		if err := os.WriteFile("/proc/sys/net/bridge/"+name, []byte("1"), 0); err != nil {
			t.Skipf("needs br_netfilter: %v", err)
		}
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	must(t, netlink.LinkAdd(br))
	must(t, netlink.LinkSetUp(br))
	receiver := nstest.New(t)
	for i, ns := range []*nstest.NS{w.sender, receiver} {
		w.attach(t, br, ns, i+1)
	}
	receiver.Do(t, func() error { return w.listen() })
	for _, cmd := range w.cmds {
		run(t, "", cmd, "-A", "FORWARD", "-m", "comment", "--comment", "refused")
	}
	return w
}

func (w *wire) attach(t *testing.T, br netlink.Link, ns *nstest.NS, number int) {
	t.Helper()
	host := fmt.Sprintf("port%d", number)
	veth := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: host, MasterIndex: br.Attrs().Index},
		PeerName:  "eth0", PeerNamespace: netlink.NsFd(ns.FD()),
	}
	must(t, netlink.LinkAdd(veth))
	must(t, netlink.LinkSetUp(veth))
	ns.Do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, prefix := range []string{"10.99.0.%d/24", "fd99::%d/64"} {
			addr, err := netlink.ParseAddr(fmt.Sprintf(prefix, number))
			if err != nil {
				return err
			}
			if addr.IP.To4() == nil {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := netlink.AddrAdd(eth0, addr); err != nil {
				return err
			}
		}
		if err := netlink.LinkSetUp(eth0); err != nil {
			return err
		}
		multicast := &net.IPNet{IP: net.IPv4(224, 0, 0, 0), Mask: net.CIDRMask(4, 32)}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: multicast})
	})
}

// listen opens the receivers. Sockets stay in the namespace in which they are opened.
func (w *wire) listen() error {
	eth0, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	for i, kind := range kinds() {
		ip := net.ParseIP(strings.TrimSuffix(destinations[kind], "%eth0"))
		var conn *net.UDPConn
		switch {
		case ip.IsMulticast():
			conn, err = net.ListenMulticastUDP("udp", eth0, &net.UDPAddr{IP: ip, Port: port + i})
		default:
			conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: ip, Port: port + i})
		}
		if err != nil {
			return fmt.Errorf("listen for %s: %w", kind, err)
		}
		w.receivers[kind] = conn
	}
	return nil
}

func kinds() []string {
	return []string{"IPv4", "IPv6", "broadcast", "IPv4 multicast", "IPv6 multicast"}
}

// passes reports whether traffic of a kind arrives. It sends until some does or the kernel has counted refused packets.
func (w *wire) passes(t *testing.T, kind string) bool {
	t.Helper()
	conn := w.receivers[kind]
	drain(t, conn)
	var sender net.Conn
	w.sender.Do(t, func() (err error) {
		address := fmt.Sprintf("[%s]:%d", destinations[kind], port+slices.Index(kinds(), kind))
		sender, err = (&net.Dialer{}).Dial("udp", address)
		return err
	})
	defer sender.Close()
	refused := w.refused(t)
	arrived := false
	const burst = 3
	eventually(t, kind+" traffic arrives or is refused", func() bool {
		for range burst {
			if _, err := sender.Write([]byte("x")); err != nil {
				return false // an earlier packet was answered with an ICMP error
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _, err := conn.ReadFrom(make([]byte, 1))
		arrived = err == nil
		return arrived || w.refused(t) >= refused+burst
	})
	return arrived
}

// drain throws away what arrived before.
func drain(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		for {
			if _, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_DONTWAIT); err != nil {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refused returns how many packets reached the end of FORWARD or were dropped in DOCKER-USER.
func (w *wire) refused(t *testing.T) int {
	t.Helper()
	n := 0
	for _, cmd := range w.cmds {
		for _, line := range lines(run(t, "", cmd, "-v", "-S")) {
			if strings.Contains(line, "refused") {
				var packets int
				if _, err := fmt.Sscanf(line[strings.Index(line, " -c "):], " -c %d", &packets); err != nil {
					t.Fatalf("no counter in %q: %v", line, err)
				}
				n += packets
			}
		}
	}
	return n
}
