// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What VXLAN puts around a frame, in bytes, less what the underlay's MTU does not count.
const (
	innerEthernetHeader = 14 // of the frame inside; its payload is what the MTU of the network counts
	vxlanHeader         = 8
	udpHeader           = 8
	ipv4Header          = 20
	ipv6Header          = 40
)

// Overhead is how much smaller the MTU of a network is than that of its underlay: 50 bytes over IPv4, 70 over IPv6.
func Overhead(local netip.Addr) int {
	if local.Unmap().Is4() {
		return innerEthernetHeader + vxlanHeader + udpHeader + ipv4Header
	}
	return innerEthernetHeader + vxlanHeader + udpHeader + ipv6Header
}

// UnderlayMTU returns the largest packet, in bytes, that goes from this host's VTEP to those peers: the smallest of the
// MTUs of the routes there, or of their links where a route has none of its own. Without peers it is that of the link
// that has the address. A peer that can't be reached counts for nothing.
func UnderlayMTU(local netip.Addr, peers ...netip.Addr) (int, error) {
	local = local.Unmap()
	mtu := 0
	lower := func(to int) {
		if to > 0 && (mtu == 0 || to < mtu) {
			mtu = to
		}
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE) // one socket for all peers
	if err != nil {
		return 0, fmt.Errorf("open an rtnetlink socket: %w", err)
	}
	defer h.Close()
	links := map[int]int{} // MTU by index: the ways to all peers begin at few of them
	for _, peer := range peers {
		routes, err := h.RouteGetWithOptions(peer.AsSlice(), &netlink.RouteGetOptions{SrcAddr: local.AsSlice()})
		if err != nil || len(routes) == 0 {
			continue
		}
		if lower(routes[0].MTU); routes[0].MTU > 0 {
			continue
		}
		index := routes[0].LinkIndex
		if _, ok := links[index]; !ok {
			link, err := netlink.LinkByIndex(index)
			if err != nil {
				return 0, fmt.Errorf("the way from %s to %s: %w", local, peer, err)
			}
			links[index] = link.Attrs().MTU
		}
		lower(links[index])
	}
	if mtu > 0 {
		return mtu, nil
	}
	link, err := linkWith(local)
	if err != nil {
		return 0, fmt.Errorf("MTU of the underlay: %w", err)
	}
	return link.Attrs().MTU, nil
}

// linkWith returns the link that has an address.
func linkWith(a netip.Addr) (netlink.Link, error) {
	addresses, err := netlink.AddrList(nil, nl.GetIPFamily(net.IP(a.AsSlice())))
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	for _, have := range addresses {
		if have.IP.Equal(a.AsSlice()) {
			return netlink.LinkByIndex(have.LinkIndex)
		}
	}
	return nil, fmt.Errorf("no link of this host has the address %s: give it to one, or start weave again with an "+
		"address that other hosts reach this one at (--cluster-address)", a)
}
