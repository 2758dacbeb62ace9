// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

// ages are the moments before which something was made that Docker has forgotten, and is not about to list.
type ages struct {
	endpoints time.Time
	others    time.Time // networks, pools and addresses
}

// oldEnough returns the moments for an earlier reading. In a hurry the grace of networks, pools and addresses is
// shorter, and what was made for an earlier Docker daemon needs none, since the present one will not go on with it. An
// endpoint keeps its grace: Docker may list it only when its container runs.
func (c *Comparison) oldEnough(earlier *reading, hurry bool) ages {
	before := earlier.begun.Add(-c.timing.Grace)
	old := ages{before, before}
	if !hurry {
		return old
	}
	old.others = earlier.begun.Add(-c.timing.HurryGrace)
	if since := c.networks.DockerSince(); since.Before(earlier.begun) {
		old.endpoints, old.others = later(old.endpoints, since), later(old.others, since)
	}
	return old
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// forget removes what neither reading has, unless it may be in the making.
func (c *Comparison) forget(ctx context.Context, earlier, latest *reading, old ages) {
	if id, ok := c.underOtherName(earlier, latest); ok {
		c.log.WithField("network", id).Warnf("docker has this network, but under none of the driver names %q: "+
			"nothing that it may have forgotten is given up; set --driver-names", latest.Drivers)
		return
	}
	known := map[driver.EndpointID]bool{}
	for _, r := range []*reading{earlier, latest} {
		for _, ep := range r.Endpoints {
			known[ep.ID] = true
		}
	}
	if _, err := c.networks.Forget(ctx, known, old.endpoints); err != nil {
		c.log.WithError(err).Error("forget endpoints that docker has forgotten")
	}
	for _, nw := range c.networks.Networks() {
		if !earlier.hasNetwork(nw.ID) && !latest.hasNetwork(nw.ID) && nw.Created.Before(old.others) {
			c.forgetNetwork(ctx, nw)
		}
	}
	forgotten, err := c.pools.Forget(ctx, ipam.LocalSpace, c.inUse(earlier, latest), old.others)
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

// releaseClaims lets other hosts have what this host holds, on networks of the cluster that Docker has, for endpoints
// that neither weave nor Docker has. It needs no age: an endpoint is tracked as soon as it holds something.
func (c *Comparison) releaseClaims(ctx context.Context, earlier, latest *reading) {
	for _, nw := range c.networks.Networks() {
		if nw.Cluster == "" || !latest.hasNetwork(nw.ID) {
			continue
		}
		known := append(earlier.endpointsOf(nw.ID), latest.endpointsOf(nw.ID)...)
		var shared []netip.Prefix
		for _, p := range c.pools.Pools() {
			if p.Network == nw.Cluster {
				shared = append(shared, p.Subnet)
			}
		}
		if err := c.networks.ReleaseClaims(ctx, nw.ID, known, shared); err != nil {
			c.log.WithError(err).WithField("network", nw.ID).Error("give back what no endpoint has")
		}
	}
}

// underOtherName finds a tracked network that Docker has under a driver name that weave does not know to be its own.
func (c *Comparison) underOtherName(earlier, latest *reading) (driver.NetworkID, bool) {
	for _, nw := range c.networks.Networks() {
		known := earlier.hasNetwork(nw.ID) || latest.hasNetwork(nw.ID)
		if !known && (earlier.Others[nw.ID] != nil || latest.Others[nw.ID] != nil) {
			return nw.ID, true
		}
	}
	return "", false
}

// forgetNetwork removes a network that Docker has forgotten, unless it still has an endpoint.
func (c *Comparison) forgetNetwork(ctx context.Context, nw driver.Network) {
	if slices.ContainsFunc(c.networks.Endpoints(), func(ep driver.Endpoint) bool { return ep.Network == nw.ID }) {
		return
	}
	log := c.log.WithField("network", nw.ID)
	log.Warn("removing a network that docker has forgotten")
	if err := c.networks.DeleteNetwork(ctx, nw.ID); err != nil {
		log.WithError(err).Error("remove a network that docker has forgotten")
	}
}

// inUse returns what may be in use of the local address space, by pool. Where Docker's API may lack addresses, all that
// are held count as in use: for networks of Swarm's and of other drivers, Docker before 28 does not list the gateways.
// A pool is not in use if no network of Docker's, whatever its drivers, and none that weave tracks has its subnet.
func (c *Comparison) inUse(earlier, latest *reading) ipam.Known {
	out := ipam.Known{}
	complete := map[netip.Prefix]bool{} // subnets of which Docker lists every address
	partly := map[netip.Prefix]bool{}   // subnets that Docker has, or weave tracks
	for _, nw := range c.networks.Networks() {
		for _, p := range nw.Pools {
			partly[p.Subnet] = true
			out[p.Subnet] = append(out[p.Subnet], p.Gateway)
		}
	}
	for _, r := range []*reading{earlier, latest} {
		for _, n := range r.Networks {
			for _, s := range n.Subnets {
				complete[s.Subnet] = n.Scope == "local" && slices.Contains(r.Drivers, n.Driver)
				partly[s.Subnet] = true
				out[s.Subnet] = append(out[s.Subnet], addressesOf(r.inUse(n.ID, s))...)
			}
		}
		for _, subnets := range r.Others {
			for _, s := range subnets {
				partly[s] = true
			}
		}
	}
	for _, p := range c.pools.Pools() {
		if complete[p.Subnet] || !partly[p.Subnet] {
			continue
		}
		inUse := out[p.Subnet]
		for _, a := range c.pools.Addresses(p.ID) {
			inUse = append(inUse, a.Address)
		}
		out[p.Subnet] = inUse // also if it is empty: the pool is known
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

func addressesOf(prefixes []netip.Prefix) []netip.Addr {
	out := make([]netip.Addr, 0, len(prefixes))
	for _, p := range prefixes {
		out = append(out, p.Addr())
	}
	return out
}

// inUse returns the addresses of s that Docker lists, with the length of s: the gateway's, auxiliary ones, and those of
// the endpoints on the network.
func (k Known) inUse(network driver.NetworkID, s Subnet) []netip.Prefix {
	var out []netip.Prefix
	add := func(a netip.Addr) { out = append(out, netip.PrefixFrom(a, s.Subnet.Bits())) }
	if s.Gateway.IsValid() {
		add(s.Gateway)
	}
	for _, a := range s.Aux {
		add(a)
	}
	for _, ep := range k.Endpoints {
		for _, a := range ep.Addresses {
			if ep.Network == network && s.Subnet.Contains(a.Addr()) {
				add(a.Addr())
			}
		}
	}
	return out
}
