// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// reclaim makes etcd and the store have the same blocks of this host's. What etcd has under this host's id is its own,
// also if it could not be recorded; what the store has is claimed again. It is ErrConflict if another host has got some
// of it, when this one was away for longer than the grace period. The caller holds the network's lock.
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
	var lost []error
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
			lost = append(lost, fmt.Errorf("%w: while this host was away host %s got %s: "+
				"restart the containers that have addresses of it",
				ErrConflict, c.HostName(holder), b))
			if err := c.holding.dropBlock(ctx, nw.Name, b); err != nil {
				return err
			}
		}
	}
	return errors.Join(lost...)
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
