package ipam

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Pool is a pool as it is listed.
type Pool struct {
	ID      string // what Docker knows it by
	Space   string
	Subnet  netip.Prefix
	SubPool netip.Prefix // zero: none
	Used    uint64       // addresses that are held
	Free    uint64       // addresses that can still be picked, at most math.MaxUint64
	Created time.Time
}

// Address is an address that is held.
type Address struct {
	Address netip.Addr
	Since   time.Time
}

// Pools returns the pools in the order of their ids; none before Load.
func (i *IPAM) Pools() []Pool {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := make([]Pool, 0, len(i.pools))
	for id, p := range i.pools {
		out = append(out, Pool{
			ID: id, Space: p.space, Subnet: p.subnet, SubPool: p.subPool,
			Used: uint64(len(p.alloc.held)), Free: p.alloc.free(), Created: p.created,
		})
	}
	slices.SortFunc(out, func(a, b Pool) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Addresses returns the addresses of a pool that are held, in order; none of a pool that isn't there.
func (i *IPAM) Addresses(poolID string) []Address {
	i.mu.Lock()
	defer i.mu.Unlock()
	p, ok := i.pools[poolID]
	if !ok {
		return nil
	}
	out := make([]Address, 0, len(p.alloc.held))
	for addr, since := range p.alloc.held {
		out = append(out, Address{Address: addr, Since: since})
	}
	slices.SortFunc(out, func(a, b Address) int { return a.Address.Compare(b.Address) })
	return out
}

// Known is what Docker knows of an address space: its subnets and, of each, all addresses in use: of the gateway, of
// endpoints and auxiliary ones.
type Known map[netip.Prefix][]netip.Addr

// Forgotten is what Forget has released: a pool, or one of its addresses.
type Forgotten struct {
	Pool    string
	Address netip.Addr // zero: the pool with all its addresses
}

// Forget releases what Docker no longer knows of an address space, since Docker may forget without telling: pools and
// addresses that were given out before the time given and that are not in known, which has to be complete. It returns
// what it has released, even beside an error.
func (i *IPAM) Forget(ctx context.Context, space string, known Known, before time.Time) ([]Forgotten, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var out []Forgotten
	for _, id := range i.idsOf(space) {
		p := i.pools[id]
		inUse, ok := known[p.subnet]
		old := p.heldBefore(before)
		if !ok && p.created.Before(before) && len(old) == len(p.alloc.held) {
			if err := i.removePool(ctx, p); err != nil {
				return out, fmt.Errorf("forget pool %s: %w", id, err)
			}
			out = append(out, Forgotten{Pool: id})
			continue
		}
		if !ok {
			continue // it is in the making
		}
		inUse = slices.SortedFunc(slices.Values(inUse), netip.Addr.Compare)
		for _, addr := range old {
			if _, found := slices.BinarySearchFunc(inUse, addr, netip.Addr.Compare); found {
				continue
			}
			if err := i.releaseAddress(ctx, p, addr); err != nil {
				return out, fmt.Errorf("forget address %s of pool %s: %w", addr, id, err)
			}
			out = append(out, Forgotten{Pool: id, Address: addr})
		}
	}
	return out, nil
}

func (i *IPAM) idsOf(space string) []string {
	var ids []string
	for id := range i.pools {
		if strings.HasPrefix(id, space+"/") {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// heldBefore returns the addresses that were given out before the time given, in order.
func (p *pool) heldBefore(before time.Time) []netip.Addr {
	var out []netip.Addr
	for addr, since := range p.alloc.held {
		if since.Before(before) {
			out = append(out, addr)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
