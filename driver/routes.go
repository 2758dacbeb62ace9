package driver

import (
	"context"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// HostRoutes returns the destinations that the host has routes to, default routes aside: subnets that containers must
// not be given.
func HostRoutes(ctx context.Context) ([]netip.Prefix, error) {
	routes, err := dump(ctx, "routes", func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		addr, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if ok && bits > 0 {
			out = append(out, netip.PrefixFrom(addr.Unmap(), bits))
		}
	}
	return out, nil
}
