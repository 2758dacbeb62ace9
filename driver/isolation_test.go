// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestHostIsIsolated: the host accepts nothing from its networks. Otherwise a container could reach it, or give it
// addresses and a default route by a router advertisement.
func TestHostIsIsolated(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	r.createNetwork(newNetwork(netID))
	id, _ := r.createEndpoint(netID, 1)
	for path, want := range map[string]string{
		"ipv6/conf/%s/accept_ra": "0", "ipv6/conf/%s/disable_ipv6": "1",
		"ipv4/conf/%s/arp_ignore": "8", "ipv4/conf/%s/rp_filter": "1",
	} {
		path = fmt.Sprintf("/proc/sys/net/"+path, bridgeName(netID))
		if got, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s is %q (%v), want %s", path, got, err, want)
		}
	}
	// The host's addresses must not be reachable over the bridge.
	lo := mustLink(t, "lo")
	addr, err := netlink.ParseAddr("192.0.2.1/32")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, addr); err != nil {
		t.Fatal(err)
	}
	sandbox := nstest.New(t)
	r.attach(id, sandbox, "eth0")
	sandbox.Do(t, func() error {
		link := mustLink(t, "eth0")
		route := netlink.Route{LinkIndex: link.Attrs().Index, Dst: addr.IPNet, Scope: netlink.SCOPE_LINK}
		if err := netlink.RouteAdd(&route); err != nil {
			return err
		}
		// By default the host receives frames to these groups. The ping below takes a second.
		for group := range byte(16) {
			if err := sendFrame(link, routerAdvertisement([6]byte{0x01, 0x80, 0xc2, 0, 0, group})); err != nil {
				return err
			}
		}
		if out, err := exec.Command("ping", "-c1", "-W1", "192.0.2.1").CombinedOutput(); err == nil {
			t.Errorf("the container reaches the host:\n%s", out)
		}
		neighbours, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, n := range neighbours {
			if n.IP.Equal(addr.IP) && n.HardwareAddr != nil {
				t.Errorf("the host answers ARP for %s with %s", n.IP, n.HardwareAddr)
			}
		}
		return nil
	})
	advertised := &netlink.Route{Protocol: unix.RTPROT_RA}
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, advertised, netlink.RT_FILTER_PROTOCOL)
	if err != nil || len(routes) > 0 {
		t.Errorf("a container gave the host routes %v (%v)", routes, err)
	}
}

// routerAdvertisement is a frame to dst that offers a default route and the prefix 2001:db8::/64.
func routerAdvertisement(dst [6]byte) []byte {
	source, allNodes := netip.MustParseAddr("fe80::bad").As16(), netip.MustParseAddr("ff02::1").As16()
	icmp := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0} // a router for 1,800 s
	icmp = append(icmp, 3, 4, 64, 0xc0, 0, 0, 0x07, 0x08, 0, 0, 0x07, 0x08, 0, 0, 0, 0)
	prefix := netip.MustParseAddr("2001:db8::").As16()
	icmp = append(icmp, prefix[:]...)
	sum := uint32(len(icmp) + unix.IPPROTO_ICMPV6)
	for _, part := range [][]byte{source[:], allNodes[:], icmp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum>>16+sum&0xffff))

	frame := append(dst[:], 2, 0, 0, 0, 0xb, 0xad, 0x86, 0xdd)
	frame = append(frame, 0x60, 0, 0, 0, 0, byte(len(icmp)), unix.IPPROTO_ICMPV6, 255)
	frame = append(append(frame, source[:]...), allNodes[:]...)
	return append(frame, icmp...)
}

func sendFrame(link netlink.Link, frame []byte) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Halen: 6})
}
