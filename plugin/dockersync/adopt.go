// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

// adopt adds to weave what Docker has and weave does not, if it is among untracked, which is what weave did not have
// before Docker was read. What weave had then and has no more was removed meanwhile.
func (c *Comparison) adopt(ctx context.Context, latest *reading, untracked contents) {
	for _, n := range latest.Networks {
		if err := c.adoptPools(ctx, n, latest, untracked); err != nil {
			c.log.WithError(err).WithField("network", n.ID).Error("take up pools that docker knows")
		}
		if err := c.adoptNetwork(ctx, n, latest, untracked); err != nil {
			c.log.WithError(err).WithField("network", n.ID).Error("take up a network that docker knows")
		}
	}
}

func (c *Comparison) adoptNetwork(ctx context.Context, n Network, latest *reading, untracked contents) error {
	tracked := c.tracked()
	if !tracked.networks[n.ID] && !untracked.networks[n.ID] {
		return nil
	}
	endpoints := slices.DeleteFunc(latest.endpointsOf(n.ID), func(ep driver.AdoptedEndpoint) bool {
		return tracked.endpoints[ep.ID] || !untracked.endpoints[ep.ID]
	})
	// Swarm makes its networks again by itself, but not the endpoints that they have now.
	if !slices.Contains(latest.Drivers, n.Driver) || n.Scope != "local" && len(endpoints) == 0 {
		return nil
	}
	if tracked.networks[n.ID] && len(endpoints) == 0 {
		return nil
	}
	spec, refused := n.spec(latest.Drivers)
	if err := refused.Unread(); err != nil {
		return err
	}
	spec.Swarm = c.swarm
	if !tracked.networks[n.ID] {
		c.warnOptions(refused, "network", string(n.ID))
	}
	for _, ep := range latest.Endpoints {
		if slices.ContainsFunc(endpoints, func(a driver.AdoptedEndpoint) bool { return a.ID == ep.ID }) {
			_, refused := driver.ParseEndpointOptions(ep.Options)
			c.warnOptions(refused, "endpoint", string(ep.ID))
		}
	}
	return c.networks.Adopt(ctx, spec, endpoints)
}

// warnOptions logs what is refused today, and was not when the network or the endpoint of this id was made: containers
// run with it.
func (c *Comparison) warnOptions(refused driver.Refusals, kind, id string) {
	for _, err := range refused.Errs {
		c.log.WithField(kind, id).WithError(err).Warn("taking up in spite of an option that has no effect")
	}
}

// spec returns what Docker asked weave for when it made n, and the options that are not taken; drivers are the names of
// weave's.
func (n Network) spec(drivers []string) (driver.NetworkSpec, driver.Refusals) {
	options, refused := driver.ParseNetworkOptions(n.Options)
	space := ""
	if slices.Contains(drivers, n.IPAMDriver) {
		space = ipam.LocalSpace
	}
	spec := driver.NetworkSpec{Definition: driver.Definition{ID: n.ID, Internal: n.Internal}}
	spec.SetOptions(options)
	spec.Cluster = n.Cluster
	for _, s := range n.Subnets {
		pool := driver.Pool{Subnet: s.Subnet, Gateway: s.Gateway, Space: space}
		for _, name := range slices.Sorted(maps.Keys(s.Aux)) {
			pool.Reserved = append(pool.Reserved, s.Aux[name])
		}
		spec.Pools = append(spec.Pools, pool)
	}
	// IPv4 first, as in a request.
	slices.SortStableFunc(spec.Pools, func(a, b driver.Pool) int {
		return cmp.Compare(a.Subnet.Addr().BitLen(), b.Subnet.Addr().BitLen())
	})
	return spec, refused
}

// usesPools reports whether n has its subnets from weave's pools, and Docker requests them only once.
func (k Known) usesPools(n Network) bool {
	return slices.Contains(k.Drivers, n.IPAMDriver) && n.Scope == "local"
}

// adoptPools adds the pools of n that weave does not have, with their addresses in use, and has those held that weave
// does not know to be in use of the others.
func (c *Comparison) adoptPools(ctx context.Context, n Network, latest *reading, untracked contents) error {
	if !latest.usesPools(n) {
		return nil
	}
	tracked := c.tracked()
	var errs []error
	for _, s := range n.Subnets {
		inUse := latest.inUse(n.ID, s)
		switch {
		case tracked.subnets[s.Subnet]:
			inUse = slices.DeleteFunc(inUse, func(a netip.Prefix) bool { return !untracked.addresses[a] })
			errs = append(errs, c.adoptAddresses(ctx, inUse))
		case untracked.subnets[s.Subnet]:
			errs = append(errs, c.adoptPool(ctx, n, s, inUse))
		}
	}
	return errors.Join(errs...)
}

func (c *Comparison) adoptPool(ctx context.Context, n Network, s Subnet, inUse []netip.Prefix) error {
	pool, err := c.pools.RequestPool(ctx, ipam.PoolRequest{
		Space: ipam.LocalSpace, Subnet: s.Subnet, Range: s.Range, Network: n.Cluster,
	})
	if err != nil {
		return err
	}
	c.log.WithField("pool", pool.ID).Warn("taking up a pool that docker knows and the state does not")
	return c.adoptAddresses(ctx, inUse)
}

func (c *Comparison) adoptAddresses(ctx context.Context, inUse []netip.Prefix) error {
	held, err := c.pools.Hold(ctx, ipam.LocalSpace, inUse)
	if len(held) > 0 {
		c.log.WithField("addresses", held).Warn("taking up addresses that docker knows to be in use")
	}
	return err
}

// endpointsOf returns the endpoints on a network as the driver adopts them.
func (r *reading) endpointsOf(id driver.NetworkID) []driver.AdoptedEndpoint {
	var out []driver.AdoptedEndpoint
	for _, ep := range r.Endpoints {
		if ep.Network == id {
			options, _ := driver.ParseEndpointOptions(ep.Options)
			spec := driver.EndpointSpec{
				ID: ep.ID, Network: id, MAC: ep.MAC, Addresses: ep.Addresses, Router: options.Router,
			}
			out = append(out, driver.AdoptedEndpoint{
				EndpointSpec: spec, Sandbox: ep.Sandbox, Gateways: ep.Gateways, External: ep.External,
			})
		}
	}
	return out
}
