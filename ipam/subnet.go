// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/weaveplugin/weave/internal/prefix"
	"github.com/weaveplugin/weave/store"
)

// subnetRange is a range out of which subnets are chosen for requests that name none.
type subnetRange struct {
	key    string       // of its record
	prefix netip.Prefix // the range
	bits   int          // length of a subnet, unless a request says another
	next   netip.Addr   // where the search for the next subnet begins; zero: at the start of the range
	random bool         // the range was made at random by Load, and is kept in the record
}

// advance returns the change that lets the next search begin after p. So a subnet that is released is not chosen again
// before the others. Docker relies on this: while it holds a subnet that overlaps one of its own routes, it requests
// another one, without a limit.
func (r *subnetRange) advance(p netip.Prefix) (store.Change, error) {
	record := rangeRecord{Next: prefix.Last(p).Next()}
	if r.random {
		record.Range = r.prefix
	}
	return store.Put(r.key, record)
}

// hostRoutes returns the destinations of the host's routes, without the default routes.
func (i *IPAM) hostRoutes(ctx context.Context) ([]netip.Prefix, error) {
	all, err := i.routes(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the host's routes: %w", err)
	}
	var out []netip.Prefix
	for _, r := range all {
		if r.Bits() > 0 {
			out = append(out, r.Masked())
		}
	}
	return out, nil
}

// freeSubnet returns the first subnet of the given length in r that overlaps none of used. It searches from the address
// from to the end of r, and then from the start of r.
func freeSubnet(r netip.Prefix, bits int, from netip.Addr, used []netip.Prefix) (netip.Prefix, bool) {
	if r.Contains(from) {
		if p, ok := freeSubnetFrom(r, bits, from, used); ok {
			return p, true
		}
	}
	return freeSubnetFrom(r, bits, r.Addr(), used)
}

func freeSubnetFrom(r netip.Prefix, bits int, from netip.Addr, used []netip.Prefix) (netip.Prefix, bool) {
	for r.Contains(from) { // no prefix contains the zero Addr, which is after the last address of all
		p := netip.PrefixFrom(from, bits).Masked()
		if p.Addr() != from {
			from = prefix.Last(p).Next()
			continue
		}
		q, found := overlapping(p, used)
		if !found {
			return p, true
		}
		from = prefix.Last(wider(p, q)).Next()
	}
	return netip.Prefix{}, false
}
