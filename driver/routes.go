// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// HostRoute is a route of the host's, in any table: a VPN may have one of its own.
type HostRoute struct {
	Destination netip.Prefix // 0.0.0.0/0 or ::/0 for a default route
	Link        int          // index of the link that it leads out of; 0: none, or several
	Local       bool         // what is for the host itself
}

// ListHostRoutes returns the host's routes.
func ListHostRoutes(ctx context.Context) ([]HostRoute, error) {
	routes, err := dump(ctx, "routes", func() ([]netlink.Route, error) {
		everyTable := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, everyTable, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, err
	}
	out := make([]HostRoute, 0, len(routes))
	for _, r := range routes {
		h := HostRoute{Link: r.LinkIndex, Local: r.Table == unix.RT_TABLE_LOCAL}
		switch {
		case r.Dst != nil:
			h.Destination = prefixOf(r.Dst)
		case r.Family == unix.AF_INET6:
			h.Destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		default:
			h.Destination = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		}
		out = append(out, h)
	}
	return out, nil
}

// HostRoutes returns the destinations that the host has routes to. Containers must not be given these subnets. Default
// routes are left out, and so are routes with a prefix of less than 8 bits, since a VPN may set a default route in such
// pieces (0.0.0.0/1 and 128.0.0.0/1, fc00::/7).
func HostRoutes(ctx context.Context) ([]netip.Prefix, error) {
	routes, err := ListHostRoutes(ctx)
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.IsSpecial() {
			out = append(out, r.Destination)
		}
	}
	return out, nil
}

// IsSpecial reports whether a route is neither a default one nor a piece of one.
func (r HostRoute) IsSpecial() bool { return r.Destination.Bits() >= 8 }

// prefixOf is what the netlink library tells of an address, with the length of its subnet. It is not valid, and its
// length below 0, if n is no address.
func prefixOf(n *net.IPNet) netip.Prefix {
	addr, _ := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(addr.Unmap(), bits)
}
