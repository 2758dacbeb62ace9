// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"net/netip"
	"slices"
)

// ReleaseClaims lets other hosts have the addresses and the MACs that this host has claimed on a network of the cluster
// for endpoints that are not there: weave ended between a claim and the endpoint's record. Known are the network's
// endpoints that Docker has; those that could not be adopted keep what they have. Addresses of the subnets shared are
// passed over: weave's IPAM hands them out, and holds them also for endpoints that are still to be made. While etcd
// does not answer nothing is released: a container that comes back after a boot could not have its address then.
func (d *Driver) ReleaseClaims(
	ctx context.Context, id NetworkID, known []AdoptedEndpoint, shared []netip.Prefix,
) error {
	unlock, err := d.lock(ctx, id) // no endpoint is between its claims and its record
	if err != nil {
		return err
	}
	defer unlock()
	nw, ok := d.tracked.network(id)
	if !ok || nw.Cluster == "" || d.cluster == nil || d.cluster.Unreachable() != nil {
		return nil
	}
	if _, sinceStart := d.cluster.Contact(); !sinceStart {
		return nil
	}
	there := d.tracked.endpointsOf(id)
	for _, ep := range d.left.endpoints() {
		if ep.Network == id {
			there = append(there, ep)
		}
	}
	for _, ep := range known {
		there = append(there, Endpoint{ID: ep.ID, Addresses: ep.Addresses})
	}
	return errors.Join(d.releaseUnusedAddresses(ctx, nw, there, shared), d.releaseUnusedMACs(ctx, nw, there))
}

func (d *Driver) releaseUnusedAddresses(
	ctx context.Context, nw Network, there []Endpoint, shared []netip.Prefix,
) error {
	var unused []netip.Addr
	for _, held := range d.cluster.Blocks(nw.Cluster) {
		addr := held.Addr()
		isShared := slices.ContainsFunc(shared, func(p netip.Prefix) bool { return p.Contains(addr) })
		isUsed := slices.ContainsFunc(there, func(ep Endpoint) bool { return ep.has(addr) })
		if held.IsSingleIP() && !isShared && !isUsed {
			unused = append(unused, addr)
		}
	}
	if len(unused) > 0 {
		d.log.WithField("network", nw.ID).Warnf("giving back addresses that no endpoint has: %v", unused)
	}
	return d.giveBack(ctx, nw, unused)
}

func (d *Driver) releaseUnusedMACs(ctx context.Context, nw Network, there []Endpoint) error {
	var errs []error
	for address, endpoint := range d.cluster.MACs(nw.Cluster) {
		id := EndpointID(endpoint)
		if slices.ContainsFunc(there, func(ep Endpoint) bool { return ep.ID == id }) {
			continue
		}
		d.log.WithField("network", nw.ID).Warnf("giving back MAC %s, whose endpoint %s is not there", address, id)
		errs = append(errs, d.releaseMAC(ctx, nw, id, address))
	}
	return errors.Join(errs...)
}
