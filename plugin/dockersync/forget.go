// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

// forget removes what neither reading has, unless it may be in the making.
func (c *Comparison) forget(ctx context.Context, earlier, latest *reading) {
	if id, ok := c.underOtherName(earlier, latest); ok {
		c.log.WithField("network", id).Warnf("docker has this network, but under none of the driver names %q: "+
			"nothing that it may have forgotten is given up; set --driver-names", latest.Drivers)
		return
	}
	before := earlier.begun.Add(-c.timing.Grace)
	known := map[driver.EndpointID]bool{}
	for _, r := range []*reading{earlier, latest} {
		for _, ep := range r.Endpoints {
			known[ep.ID] = true
		}
	}
	if _, err := c.networks.Forget(ctx, known, before); err != nil {
		c.log.WithError(err).Error("forget endpoints that docker has forgotten")
	}
	if c.docker.Reachable() != nil {
		return // names may be old: a network under another driver name would not have been found above
	}
	var removed []netip.Prefix
	for _, nw := range c.networks.Networks() {
		if earlier.hasNetwork(nw.ID) || latest.hasNetwork(nw.ID) || !nw.Created.Before(before) {
			continue
		}
		if c.forgetNetwork(ctx, nw) {
			for _, p := range nw.Pools {
				removed = append(removed, p.Subnet)
			}
		}
	}
	forgotten, err := c.pools.Forget(ctx, ipam.LocalSpace, c.inUse(earlier, latest, removed), before)
	for _, f := range forgotten {
		log := c.log.WithField("pool", f.Pool)
		if f.Address.IsValid() {
			log = log.WithField("address", f.Address)
		}
		log.Warn("released what docker has forgotten")
	}
	if err != nil {
		c.log.WithError(err).Error("release addresses that docker has forgotten")
	}
}

// underOtherName finds a tracked network that Docker has under a driver name that weave does not know to be its own.
func (c *Comparison) underOtherName(earlier, latest *reading) (driver.NetworkID, bool) {
	for _, nw := range c.networks.Networks() {
		if !earlier.hasNetwork(nw.ID) && !latest.hasNetwork(nw.ID) && c.docker.NetworkName(string(nw.ID)) != "" {
			return nw.ID, true
		}
	}
	return "", false
}

// forgetNetwork removes a network that Docker has forgotten, unless it still has an endpoint, and reports whether it
// did.
func (c *Comparison) forgetNetwork(ctx context.Context, nw driver.Network) bool {
	if slices.ContainsFunc(c.networks.Endpoints(), func(ep driver.Endpoint) bool { return ep.Network == nw.ID }) {
		return false
	}
	log := c.log.WithField("network", nw.ID)
	log.Warn("removing a network that docker has forgotten")
	if err := c.networks.DeleteNetwork(ctx, nw.ID); err != nil {
		log.WithError(err).Error("remove a network that docker has forgotten")
		return false
	}
	return true
}

// inUse returns what may be in use of the local address space, by pool. Where Docker's API may lack addresses, all that
// are held count as in use: for networks of Swarm's and of other drivers, Docker before 28 does not list the gateways.
// A pool without a network counts as in use if it has addresses, unless it is among removed, the subnets of networks
// that were just removed.
func (c *Comparison) inUse(earlier, latest *reading, removed []netip.Prefix) ipam.Known {
	out := ipam.Known{}
	for _, nw := range c.networks.Networks() {
		for _, p := range nw.Pools {
			removed = slices.DeleteFunc(removed, p.Subnet.Overlaps)
			out[p.Subnet] = append(out[p.Subnet], p.Gateway)
		}
	}
	complete := map[netip.Prefix]bool{} // subnets of which Docker lists every address
	for _, r := range []*reading{earlier, latest} {
		for _, n := range r.Networks {
			for _, s := range n.Subnets {
				complete[s.Subnet] = n.Scope == "local" && slices.Contains(r.Drivers, n.Driver)
				out[s.Subnet] = append(out[s.Subnet], r.inUse(n.ID, s)...)
			}
		}
	}
	for _, p := range c.pools.Pools() {
		held := c.pools.Addresses(p.ID)
		if complete[p.Subnet] || len(held) == 0 || slices.Contains(removed, p.Subnet) {
			continue
		}
		for _, a := range held {
			out[p.Subnet] = append(out[p.Subnet], a.Address)
		}
	}
	for _, ep := range c.networks.Endpoints() {
		for _, a := range ep.Addresses {
			out[a.Masked()] = append(out[a.Masked()], a.Addr())
		}
	}
	return out
}

func (r *reading) hasNetwork(id driver.NetworkID) bool {
	return slices.ContainsFunc(r.Networks, func(n Network) bool { return n.ID == id })
}

// inUse returns the addresses of s that Docker lists: the gateway's, auxiliary ones, and those of the endpoints on the
// network.
func (r *reading) inUse(network driver.NetworkID, s Subnet) []netip.Addr {
	var out []netip.Addr
	if s.Gateway.IsValid() {
		out = append(out, s.Gateway)
	}
	for _, a := range s.Aux {
		out = append(out, a)
	}
	for _, ep := range r.Endpoints {
		for _, a := range ep.Addresses {
			if ep.Network == network && s.Subnet.Contains(a.Addr()) {
				out = append(out, a.Addr())
			}
		}
	}
	return out
}
