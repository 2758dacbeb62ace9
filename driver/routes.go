package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// HostRoutes returns the destinations that the host has routes to, default routes aside: subnets that containers must
// not be given.
func HostRoutes(ctx context.Context) ([]netip.Prefix, error) {
	var routes []netlink.Route
	err := error(netlink.ErrDumpInterrupted)
	for try := 0; try < dumpTries && errors.Is(err, netlink.ErrDumpInterrupted); try++ {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		routes, err = netlink.RouteList(nil, netlink.FAMILY_ALL)
	}
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
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
