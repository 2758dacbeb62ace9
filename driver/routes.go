// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HostRoutes returns the destinations that the host has routes to in any table, since a VPN may have one of its own.
// Containers must not be given these subnets. Default routes are left out, and so are routes with a prefix of less
// than 8 bits, since a VPN may set a default route in such pieces (0.0.0.0/1 and 128.0.0.0/1, fc00::/7).
func HostRoutes(ctx context.Context) ([]netip.Prefix, error) {
	routes, err := dump(ctx, "routes", func() ([]netlink.Route, error) {
		everyTable := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, everyTable, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if p := prefixOf(r.Dst); p.Bits() >= 8 {
			out = append(out, p)
		}
	}
	return out, nil
}

// prefixOf is what the netlink library tells of an address, with the length of its subnet. It is not valid, and its
// length below 0, if n is no address.
func prefixOf(n *net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
