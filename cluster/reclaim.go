// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// reclaim makes etcd and the store have the same blocks of this host's. What etcd has under this host's id is its own,
// also if it could not be recorded; what the store has is claimed again. What another host has got, when this one was
// away for longer than the grace period, is a problem that the user has to know of. The caller holds the network's
// lock.
func (c *Cluster) reclaim(ctx context.Context, nw Network, lease clientv3.LeaseID) error {
	taken, err := c.readBlocks(ctx, nw.Name)
	if err != nil {
		return err
	}
	var own []netip.Prefix
	for _, s := range nw.Subnets {
		own = append(own, taken.of(c.id, s.Subnet)...)
	}
	for _, b := range own {
		if _, err := c.adoptUnder(ctx, lease, nw.Name, nw.subnetOf(b.Addr()), b); err != nil {
			return err
		}
	}
	for _, b := range c.holding.blocksOf(nw.Name) {
		if slices.Contains(own, b) {
			continue
		}
		subnet := nw.subnetOf(b.Addr())
		switch ok, err := c.claimUnder(ctx, lease, nw.Name, subnet, b); {
		case err != nil:
			return err
		case !ok:
			_, holder := taken.holder(subnet, b.Addr())
			c.noteLost(nw.Name, b, c.HostName(holder))
			if err := c.holding.dropBlock(ctx, nw.Name, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// noteLost tells of a block that another host has got, until this one has no endpoint with an address of it.
func (c *Cluster) noteLost(network string, block netip.Prefix, holder string) {
	c.mu.Lock()
	if m := c.networks[network]; m != nil && !slices.Contains(m.lost, block) {
		m.lost = append(m.lost, block)
	}
	c.mu.Unlock()
	c.setProblem(lostProblem(network, block), fmt.Errorf("%w: while this host was away host %s got %s: "+
		"restart the containers that have addresses of it", ErrConflict, holder, block))
}

// reviewLost drops what noteLost tells and is not so any more; of a network that this host has left, all.
func (c *Cluster) reviewLost(m *membership, isOn bool) {
	c.mu.Lock()
	var over []string
	m.lost = slices.DeleteFunc(m.lost, func(block netip.Prefix) bool {
		isUsed := isOn && c.usesHere(m.network.Name, block)
		if !isUsed {
			over = append(over, lostProblem(m.network.Name, block))
		}
		return !isUsed
	})
	c.mu.Unlock()
	for _, what := range over {
		c.setProblem(what, nil)
	}
}

// usesHere reports whether an endpoint of this host has an address of a block. The caller holds the lock.
func (c *Cluster) usesHere(network string, block netip.Prefix) bool {
	for _, ep := range c.endpoints {
		if ep.Network == network &&
			slices.ContainsFunc(ep.Addresses, func(a netip.Prefix) bool { return block.Contains(a.Addr()) }) {
			return true
		}
	}
	return false
}

func lostProblem(network string, block netip.Prefix) string {
	return fmt.Sprintf("addresses %s of network %s", block, network)
}

// subnetOf returns the subnet that an address is in; zero: none.
func (nw Network) subnetOf(addr netip.Addr) netip.Prefix {
	for _, s := range nw.Subnets {
		if s.Subnet.Contains(addr) {
			return s.Subnet
		}
	}
	return netip.Prefix{}
}
