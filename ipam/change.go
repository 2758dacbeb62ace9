// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/store"
)

// The methods in this file change the state: the store first, and then, if that succeeded, the pools in memory. Their
// callers hold writer.

// addAnyPool adds a pool as r requests it, of a subnet that overlaps neither another pool of the space, nor a route,
// nor the subnet of an address in use, nor what Options.Avoid says.
func (i *IPAM) addAnyPool(ctx context.Context, r PoolRequest, routes, inUse []netip.Prefix) (*pool, error) {
	from := &i.v4
	if r.IPv6 {
		from = &i.v6
	}
	bits := r.Bits
	if bits == 0 {
		bits = from.bits
	}
	if bits < from.prefix.Bits() || bits > from.prefix.Addr().BitLen() {
		return nil, fmt.Errorf("%w: a subnet of /%d: the range %s has none", ErrInvalid, bits, from.prefix)
	}
	var used []netip.Prefix
	for _, p := range i.pools {
		if p.space == r.Space {
			used = append(used, p.subnet)
		}
	}
	pools, avoid := len(used), i.avoid()
	used = slices.Concat(used, routes, avoid)
	for _, a := range inUse {
		used = append(used, a.Masked())
	}
	subnet, ok := from.find(bits, r.Network, used)
	if !ok {
		beside := fmt.Sprintf("%d pools and %d routes of the host", pools, len(routes))
		if other, found := overlapping(from.prefix, avoid); found {
			beside += fmt.Sprintf(", and outside of Docker's default address pools such as %s", other)
		}
		return nil, fmt.Errorf("%w: no /%d of %s is free beside %s: "+
			"name a subnet (docker network create --subnet), or give weave another range (weave serve --range)",
			ErrPoolExhausted, bits, from.prefix, beside)
	}
	p, err := newPool(r.Space, subnet, netip.Prefix{})
	if err != nil {
		return nil, err
	}
	next, record, err := from.after(subnet, r.Network)
	if err != nil {
		return nil, err
	}
	p.network = r.Network
	if err := i.addPool(ctx, p, record); err != nil {
		return nil, err
	}
	from.next = next
	return p, nil
}

// addNamedPool adds the pool p. A route of the host that overlaps it is only logged: the user who names a subnet
// decides.
func (i *IPAM) addNamedPool(ctx context.Context, p *pool, routes []netip.Prefix) error {
	if route, found := overlapping(p.subnet, routes); found {
		i.log.WithFields(logrus.Fields{"subnet": p.subnet, "route": route}).
			Warn("the subnet asked for overlaps a route of the host")
	}
	for _, other := range i.pools {
		if other.space == p.space && other.subnet.Overlaps(p.subnet) {
			return fmt.Errorf("%w: %s: %s", ErrPoolOverlap, other.id(), p.besides(other))
		}
	}
	return i.addPool(ctx, p)
}

// besides says what to do where another pool is in the way of p.
func (p *pool) besides(other *pool) string {
	switch {
	case p.network == "":
		return "name another subnet, or remove the network that has it first"
	case p.network == other.network:
		return fmt.Sprintf("that is network %s of the cluster, which is on this host under another name", p.network)
	}
	return fmt.Sprintf("network %s of the cluster has %s: remove the network that has the other one on this host "+
		"first, or make %[1]s again on all hosts with another --subnet", p.network, p.subnet)
}

// addPool writes p together with further changes, and adds it.
func (i *IPAM) addPool(ctx context.Context, p *pool, more ...store.Change) error {
	r := poolRecord{Created: i.now(), Network: p.network}
	put, err := store.Put(p.key(), r)
	if err != nil {
		return err
	}
	if err := i.store.Apply(ctx, append(more, put)...); err != nil {
		return err
	}
	p.open(r)
	i.update(func() { i.pools[p.id()] = p })
	return nil
}

// removePool removes p with all its addresses.
func (i *IPAM) removePool(ctx context.Context, p *pool) error {
	changes := []store.Change{store.Delete(p.key())}
	for addr := range p.alloc.held {
		changes = append(changes, store.Delete(p.addressKey(addr)))
	}
	for addr := range p.alloc.freedAt {
		changes = append(changes, store.Delete(p.addressKey(addr)))
	}
	if err := i.store.Apply(ctx, changes...); err != nil {
		return err
	}
	i.update(func() { delete(i.pools, p.id()) })
	return nil
}

// holdAddress hands out the address that is requested, or any that is free.
func (i *IPAM) holdAddress(ctx context.Context, p *pool, r addressRequest) (netip.Addr, error) {
	now, addr, owner := i.now(), r.addr, r.owner
	if addr.IsValid() {
		if err := p.check(addr); err != nil {
			return addr, err
		}
		if since, held := p.alloc.held[addr]; held && !i.reclaimable(p.space, p.subnet, addr, since) {
			return addr, fmt.Errorf("%w: name another one, or remove the endpoint that has it first", ErrAddressInUse)
		}
		if p.network != "" && !r.gateway && !i.cluster.Holds(p.network, addr) { // it may just have been given back
			return addr, errNoBlock
		}
	} else {
		var ok bool
		i.update(func() { addr, ok = i.pick(p, now, owner) })
		if !ok && p.network != "" {
			return addr, errNoBlock
		}
		if !ok {
			return addr, fmt.Errorf("%w: all %d addresses are in use: "+
				"remove endpoints, or make a network with a larger subnet", ErrPoolExhausted, p.alloc.size)
		}
	}
	put, err := store.Put(p.addressKey(addr), addressRecord{Held: now, Owner: owner})
	if err != nil {
		return addr, err
	}
	if err := i.store.Apply(ctx, put); err != nil {
		return addr, err
	}
	i.update(func() { p.alloc.hold(addr, now, owner) })
	return addr, nil
}

// freeAddress takes back addr, which is held.
func (i *IPAM) freeAddress(ctx context.Context, p *pool, addr netip.Addr) error {
	now := i.now()
	changes, err := p.freeing(addr, now)
	if err != nil {
		return err
	}
	if err := i.store.Apply(ctx, changes...); err != nil {
		return err
	}
	i.update(func() { p.alloc.release(addr, now) })
	return nil
}

// freeing returns the changes of the records when addr is released now.
func (p *pool) freeing(addr netip.Addr, now time.Time) ([]store.Change, error) {
	if !p.alloc.inside(addr) {
		return []store.Change{store.Delete(p.addressKey(addr))}, nil
	}
	put, err := store.Put(p.addressKey(addr), addressRecord{
		Sequence: p.alloc.sequence, Freed: now, Owner: p.alloc.owners[addr],
	})
	if err != nil {
		return nil, err
	}
	evicted, full := p.alloc.nextEviction()
	if !full {
		return []store.Change{put}, nil
	}
	// As long as every address that the cursor has passed has a record, the records tell where the cursor is. The
	// evicted address has none any more.
	cursor, err := store.Put(p.key(), p.record())
	return []store.Change{put, store.Delete(p.addressKey(evicted)), cursor}, err
}
