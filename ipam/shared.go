// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/store"
)

// A pool of a network of the cluster is the same on all hosts that are on the network, and each host hands out the
// addresses of the blocks that it holds. What has to be agreed on with other hosts is asked for before writer is taken,
// so that no other pool waits for etcd.

// errNoBlock says that this host has no free address in the blocks that it holds.
var errNoBlock = fmt.Errorf("%w in the blocks of this host", ErrPoolExhausted)

// maxTries is how often an address is looked for that another call has taken meanwhile.
const maxTries = 10

// requestShared makes a pool of a network of the cluster: of the subnet that it has, or of one that it gets now.
func (i *IPAM) requestShared(ctx context.Context, r PoolRequest) (Pool, error) {
	if i.cluster == nil {
		return Pool{}, fmt.Errorf("%w: network %s of the cluster: this host is in none: start weave with --cluster",
			ErrInvalid, r.Network)
	}
	for tries := 0; ; tries++ {
		p, err := i.tryShared(ctx, r)
		// Another host may have made the network meanwhile, with a subnet of its own choice, or another one with this.
		if !errors.Is(err, cluster.ErrConflict) || r.Subnet.IsValid() || tries == maxTries {
			return p, err
		}
	}
}

func (i *IPAM) tryShared(ctx context.Context, r PoolRequest) (Pool, error) {
	nw, _, err := i.cluster.Lookup(ctx, r.Network)
	if err != nil {
		return Pool{}, err
	}
	for _, s := range nw.Subnets {
		if !r.Subnet.IsValid() && s.Subnet.Addr().Is6() == r.IPv6 && (r.Bits == 0 || r.Bits == s.Subnet.Bits()) {
			r.Subnet, r.IPv6, r.Bits = s.Subnet, false, 0
		}
	}
	join := i.cluster.Join
	if !r.Subnet.IsValid() {
		join = i.cluster.JoinChosen
	}
	p, err := i.requestPool(ctx, r)
	if err != nil {
		return Pool{}, err
	}
	_, err = join(ctx, cluster.Network{Name: r.Network, Subnets: []cluster.Subnet{{Subnet: p.Subnet}}})
	if err != nil {
		return Pool{}, errors.Join(err, i.ReleasePool(context.WithoutCancel(ctx), p.ID))
	}
	return p, nil
}

// sharedSubnets returns the subnets of the cluster's networks, which a new one may not have.
func (i *IPAM) sharedSubnets(ctx context.Context, r PoolRequest) ([]netip.Prefix, error) {
	if r.Network == "" {
		return nil, nil
	}
	return i.cluster.Subnets(ctx)
}

// sharedNetwork returns the network of the cluster that a pool is of; empty: none.
func (i *IPAM) sharedNetwork(id PoolID) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if p, ok := i.pools[id]; ok && i.cluster != nil {
		return p.network
	}
	return ""
}

// leave ends this host's membership of a network when its last pool here is gone. Docker may release a pool before it
// deletes the network, which is then left with it.
func (i *IPAM) leave(ctx context.Context, network string) error {
	if i.inUseHere(network) {
		return nil
	}
	i.mu.Lock()
	for _, p := range i.pools {
		if p.network == network {
			i.mu.Unlock()
			return nil
		}
	}
	i.mu.Unlock()
	return i.cluster.Leave(ctx, network)
}

// requestSharedAddress is requestAddress for a pool of the cluster. What it has claimed may be given back to another
// host before it is handed out: then it is claimed again.
func (i *IPAM) requestSharedAddress(ctx context.Context, r addressRequest) (netip.Prefix, error) {
	claim, err := i.claimOf(r.pool)
	if err != nil {
		return netip.Prefix{}, err
	}
	if r.addr.IsValid() && !claim.Subnet.Contains(r.addr) {
		return i.requestAddress(ctx, r) // says so
	}
	for try := range maxTries {
		// Nothing is claimed for an address that is refused here, such as that of the gateway.
		if r.addr.IsValid() && try > 0 {
			if _, err := i.cluster.ClaimAddress(ctx, claim.Network, claim.Subnet, r.addr); err != nil {
				return netip.Prefix{}, err
			}
		}
		got, err := i.requestAddress(ctx, r)
		if !errors.Is(err, errNoBlock) {
			i.claimAhead(r.pool)
			return got, err
		}
		if r.addr.IsValid() {
			continue
		}
		_, err = i.cluster.ClaimBlock(ctx, claim)
		switch {
		case errors.Is(err, cluster.ErrExhausted):
			return netip.Prefix{}, fmt.Errorf("%w: %w: remove endpoints, or make a network with a larger subnet",
				ErrPoolExhausted, err)
		case err != nil:
			return netip.Prefix{}, err
		}
	}
	return netip.Prefix{}, errNoBlock
}

// RequestGateway hands out the address of a pool's gateway: addr, or one of weave's choice if addr is zero. A network
// of the cluster has the same gateway on all hosts, each of which answers for it.
func (i *IPAM) RequestGateway(ctx context.Context, id PoolID, addr netip.Addr) (netip.Prefix, error) {
	if i.sharedNetwork(id) == "" {
		return i.RequestAddress(ctx, id, addr)
	}
	got, err := i.requestSharedGateway(ctx, id, addr)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("request the gateway of pool %s: %w", id, err)
	}
	return got, nil
}

func (i *IPAM) requestSharedGateway(ctx context.Context, id PoolID, addr netip.Addr) (netip.Prefix, error) {
	claim, err := i.claimOf(id)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !addr.IsValid() {
		addr = i.reserved(claim.Network, claim.Subnet)
	}
	_, err = i.cluster.Join(ctx, cluster.Network{
		Name: claim.Network, Subnets: []cluster.Subnet{{Subnet: claim.Subnet, Gateway: addr}},
	})
	if err != nil {
		return netip.Prefix{}, err
	}
	return i.requestAddress(ctx, addressRequest{pool: id, addr: addr, gateway: true})
}

// claimOf returns the claim of further addresses for a pool of the cluster.
func (i *IPAM) claimOf(id PoolID) (cluster.Claim, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p, ok := i.pools[id]
	if !ok {
		return cluster.Claim{}, fmt.Errorf("%w: remove the network and create it again", ErrPoolUnknown)
	}
	reserved := i.reserved(p.network, p.subnet)
	return cluster.Claim{
		Network: p.network, Subnet: p.subnet, First: p.alloc.first, Last: p.alloc.last,
		Taken: func(addr netip.Addr) bool { return addr == reserved },
	}, nil
}

// reserved returns the address of a subnet of the cluster that no container gets unless a user names it: the gateway's
// or, as long as there is none, the first, which it will be if nobody names another.
func (i *IPAM) reserved(network string, subnet netip.Prefix) netip.Addr {
	if gateway := i.gatewayOf(network, subnet); gateway.IsValid() {
		return gateway
	}
	first, _ := usable(subnet, subnet)
	return first
}

// gatewayOf returns the gateway of a subnet of the cluster; zero: it has none.
func (i *IPAM) gatewayOf(network string, subnet netip.Prefix) netip.Addr {
	nw, _ := i.cluster.Network(network)
	for _, s := range nw.Subnets {
		if s.Subnet == subnet {
			return s.Gateway
		}
	}
	return netip.Addr{}
}

// pick returns an address of a pool that this host may hand out, or false if there is none.
func (i *IPAM) pick(p *pool, now time.Time, owner string) (netip.Addr, bool) {
	if p.network == "" || i.cluster == nil {
		return p.pick(now, owner)
	}
	if addr, ok := p.pickKnown(now, owner); ok && i.cluster.Holds(p.network, addr) {
		return addr, true
	}
	return p.alloc.pickWithin(i.cluster.Blocks(p.network), i.reserved(p.network, p.subnet))
}

// Share makes the pool of a subnet one of a network of the cluster, whose subnet it has to be, and returns the network.
// Without a network it returns that of which the pool is one; empty: none. A subnet of which weave has no pool is
// somebody else's business, and no error.
func (i *IPAM) Share(ctx context.Context, space string, subnet netip.Prefix, network string) (string, error) {
	i.mu.Lock()
	var p *pool
	for _, other := range i.pools {
		if other.space == space && other.subnet == subnet {
			p = other
		}
	}
	i.mu.Unlock()
	switch {
	case p == nil || i.cluster == nil:
		return network, nil
	case p.network != "" && network != "" && p.network != network:
		return "", fmt.Errorf("%w: the subnet %s is that of network %s of the cluster, not of %s",
			ErrInvalid, subnet, p.network, network)
	case p.network != "" || network == "":
		return p.network, nil
	}
	want := cluster.Network{Name: network, Subnets: []cluster.Subnet{{Subnet: subnet}}}
	if _, err := i.cluster.Join(ctx, want); err != nil {
		return "", err
	}
	err := i.changeOnly(ctx, func() error {
		r := p.record()
		r.Network = network
		put, err := store.Put(p.key(), r)
		if err == nil {
			err = i.store.Apply(ctx, put)
		}
		if err == nil {
			i.update(func() { p.network = network })
		}
		return err
	})
	return network, err
}
