// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"crypto/sha256"
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
	next   netip.Addr   // where the search for this host's next subnet begins; zero: at the start of the range
	random bool         // the range was made at random by Load, and is kept in the record
}

// find returns a subnet of the given length that overlaps none of used, for a network of the cluster or for one of this
// host's alone, whose name is empty. The cluster's are in the second half of the range and this host's in the first, as
// long as these have a free one: a host where the subnet of the cluster's network is that of a network of its own could
// not join it. In its half the search begins at a place of the name's, so that hosts which make different networks at
// the same moment seldom choose the same subnet.
func (r *subnetRange) find(bits int, network string, used []netip.Prefix) (netip.Prefix, bool) {
	first, second := halves(r.prefix)
	half, from := first, r.next
	if network != "" {
		half, from = second, placeIn(second, network)
	}
	if p, ok := freeSubnet(half, bits, from, used); ok {
		return p, true
	}
	return freeSubnet(r.prefix, bits, from, used)
}

// after returns where the search for this host's next subnet begins when p has been chosen, and the change that says
// so. So a subnet that is released is not chosen again before the others. Docker relies on this: while it holds a
// subnet that overlaps one of its own routes, it requests another one, without a limit.
func (r *subnetRange) after(p netip.Prefix, network string) (next netip.Addr, record store.Change, err error) {
	if next = r.next; network == "" {
		next = prefix.Last(p).Next()
	}
	value := rangeRecord{Next: next}
	if r.random {
		value.Range = r.prefix
	}
	record, err = store.Put(r.key, value)
	return next, record, err
}

// halves returns the halves of p; both are p if it is a single address.
func halves(p netip.Prefix) (first, second netip.Prefix) {
	if p.IsSingleIP() {
		return p, p
	}
	first = netip.PrefixFrom(p.Addr(), p.Bits()+1)
	return first, netip.PrefixFrom(prefix.Last(first).Next(), p.Bits()+1)
}

// placeIn returns an address of p that depends on the name.
func placeIn(p netip.Prefix, name string) netip.Addr {
	sum := sha256.Sum256([]byte(name))
	b := p.Addr().AsSlice()
	for i, host := range prefix.Last(p).AsSlice() { // the prefix has no host bits
		b[i] |= sum[i] & (host ^ b[i])
	}
	addr, _ := netip.AddrFromSlice(b) // it has the length of one
	return addr
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
