// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Pool is a pool as it was when it was listed.
type Pool struct {
	ID      PoolID
	Space   string
	Subnet  netip.Prefix
	Range   netip.Prefix // the part of Subnet that addresses are picked from; zero: all of it
	Network string       // of the cluster, whose hosts hold the addresses; empty: the pool is this host's alone
	Used    uint64       // number of addresses that are held
	Free    uint64       // number of addresses that can still be picked, at most math.MaxUint64
	Created time.Time
}

// Address is an address that is held.
type Address struct {
	Address netip.Addr
	Since   time.Time
}

// listed returns the pool as it is now. The caller holds mu or writer.
func (p *pool) listed() Pool {
	return Pool{
		ID: p.id(), Space: p.space, Subnet: p.subnet, Range: p.pickRange, Network: p.network,
		Used: uint64(len(p.alloc.held)), Free: p.alloc.free(), Created: p.created,
	}
}

// Pools returns the pools in the order of their ids; none before Load. It does not wait for changes in progress.
func (i *IPAM) Pools() []Pool {
	i.mu.Lock()
	out := make([]Pool, 0, len(i.pools))
	for _, p := range i.pools {
		out = append(out, p.listed())
	}
	i.mu.Unlock()
	slices.SortFunc(out, func(a, b Pool) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Addresses returns the addresses of a pool that are held, in their order; none if there is no such pool. It does not
// wait for changes in progress.
func (i *IPAM) Addresses(id PoolID) []Address {
	var out []Address
	i.mu.Lock()
	if p, ok := i.pools[id]; ok {
		for addr, since := range p.alloc.held {
			out = append(out, Address{Address: addr, Since: since})
		}
	}
	i.mu.Unlock()
	slices.SortFunc(out, func(a, b Address) int { return a.Address.Compare(b.Address) })
	return out
}
