// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Known is what Docker knows of an address space: its subnets, each with all addresses in use, those of the gateway and
// of endpoints and the auxiliary ones.
type Known map[netip.Prefix][]netip.Addr

// Forgotten is what Forget has released: a pool, or one of its addresses.
type Forgotten struct {
	Pool    PoolID
	Address netip.Addr // zero: the pool with all its addresses
}

// Forget releases what Docker does not know of an address space any more. Docker, when it is killed, may forget
// networks and endpoints without releasing what they had. Pools and addresses are released that are not in known, which
// has to be complete, and that were handed out before the given time. Forget returns what it has released, beside an
// error too.
func (i *IPAM) Forget(ctx context.Context, space string, known Known, before time.Time) ([]Forgotten, error) {
	networks := map[PoolID]string{} // of the cluster
	out, err := change(ctx, i, func() ([]Forgotten, undo, error) {
		for _, p := range i.pools {
			networks[p.id()] = p.network
		}
		out, err := i.forget(ctx, space, known, before)
		return out, nil, err
	})
	for _, f := range out {
		if network := networks[f.Pool]; !f.Address.IsValid() && network != "" {
			err = errors.Join(err, i.leave(ctx, network))
		}
	}
	if err != nil {
		return out, fmt.Errorf("release what docker has forgotten: %w", err)
	}
	return out, nil
}

func (i *IPAM) forget(ctx context.Context, space string, known Known, before time.Time) ([]Forgotten, error) {
	var out []Forgotten
	for _, p := range i.poolsOf(space) {
		inUse, isKnown := known[p.subnet]
		old := p.heldBefore(before)
		switch {
		case isKnown:
			released, err := i.forgetAddresses(ctx, p, old, inUse)
			out = append(out, released...)
			if err != nil {
				return out, err
			}
		case p.created.Before(before) && len(old) == len(p.alloc.held):
			if err := i.removePool(ctx, p); err != nil {
				return out, fmt.Errorf("forget pool %s: %w", p.id(), err)
			}
			out = append(out, Forgotten{Pool: p.id()})
		default: // Docker may be making the network at this moment
		}
	}
	return out, nil
}

// forgetAddresses releases those of the addresses held that are not in use.
func (i *IPAM) forgetAddresses(ctx context.Context, p *pool, held, inUse []netip.Addr) ([]Forgotten, error) {
	used := make(map[netip.Addr]bool, len(inUse))
	for _, addr := range inUse {
		used[addr] = true
	}
	var out []Forgotten
	for _, addr := range held {
		if used[addr] {
			continue
		}
		if err := i.freeAddress(ctx, p, addr); err != nil {
			return out, fmt.Errorf("forget address %s of pool %s: %w", addr, p.id(), err)
		}
		out = append(out, Forgotten{Pool: p.id(), Address: addr})
	}
	return out, nil
}

// poolsOf returns the pools of a space, in the order of their ids.
func (i *IPAM) poolsOf(space string) []*pool {
	var out []*pool
	for _, p := range i.pools {
		if p.space == space {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *pool) int { return cmp.Compare(a.id(), b.id()) })
	return out
}

// heldBefore returns the addresses that were handed out before the given time, in their order.
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
