package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/dockerapi"
	"github.com/weaveplugin/weave/ipam"
)

// engine compares what weave tracks with what Docker says, in the background: an Engine that was killed, or that called
// while weave was away, forgets without telling, and a weave whose state is new knows nothing of what is there.
type engine struct {
	docker   dockerReader
	networks networkTracker
	pools    poolTracker
	timing   engineTiming
	log      *logrus.Entry
}

// dockerReader is dockerapi.Watcher.
type dockerReader interface {
	Known(context.Context) (dockerapi.Known, error)
	NetworkName(id string) string
	Reachable() error
}

// networkTracker is driver.Driver.
type networkTracker interface {
	Networks() []driver.Network
	Endpoints() []driver.Endpoint
	Adopt(context.Context, *network.CreateNetworkRequest, []driver.Endpoint) error
	Forget(ctx context.Context, known map[driver.EndpointID]bool, before time.Time) ([]driver.EndpointID, error)
	DeleteNetwork(context.Context, *network.DeleteNetworkRequest) error
}

// poolTracker is ipam.IPAM.
type poolTracker interface {
	Pools() []ipam.Pool
	Addresses(poolID string) []ipam.Address
	Forget(ctx context.Context, space string, known ipam.Known, before time.Time) ([]ipam.Forgotten, error)
	RequestPool(context.Context, *dockeripam.RequestPoolRequest) (*dockeripam.RequestPoolResponse, error)
	RequestAddress(context.Context, *dockeripam.RequestAddressRequest) (*dockeripam.RequestAddressResponse, error)
}

// engineTiming says when Docker is read.
type engineTiming struct {
	retry    time.Duration // after a reading that failed or that stands alone: two in a row are needed
	interval time.Duration // else
	grace    time.Duration // what is younger than this before the earlier reading may still be in the making
	deadline time.Duration // of one comparison
}

var defaultEngineTiming = engineTiming{retry: 10 * time.Second, interval: time.Minute, grace: time.Minute, deadline: 45 * time.Second}

// reading is what Docker answered, in full.
type reading struct {
	dockerapi.Known
	begun   time.Time
	missing map[string]bool // the networks, endpoints (by id) and subnets that weave did not have then
}

// run compares until ctx ends.
func (e *engine) run(ctx context.Context) {
	var earlier *reading
	for {
		latest, err := e.compare(ctx, earlier)
		wait := e.timing.interval
		if err != nil || earlier == nil {
			wait = e.timing.retry
		}
		if err != nil && ctx.Err() == nil {
			e.log.WithError(err).Debug("compare with docker: will be tried again")
		}
		earlier = latest
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// compare reads Docker and acts on what this reading and the earlier one agree upon. A reading that fails ends the row:
// it returns nil.
func (e *engine) compare(ctx context.Context, earlier *reading) (*reading, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timing.deadline)
	defer cancel()
	begun := time.Now()
	known, err := e.docker.Known(ctx)
	if err != nil {
		return nil, err
	}
	latest := &reading{Known: known, begun: begun}
	tracked := e.tracked()
	latest.missing = latest.without(tracked)
	switch {
	case earlier != nil:
		e.adopt(ctx, latest, earlier.missing)
	case len(tracked) == 0: // weave was installed anew: it can't have been told of a removal while Docker was read
		e.adopt(ctx, latest, latest.missing)
	}
	if earlier != nil {
		e.forget(ctx, earlier, latest)
	}
	return latest, nil
}

// tracked are the networks, endpoints (by id) and subnets that weave has.
func (e *engine) tracked() map[string]bool {
	out := map[string]bool{}
	for _, nw := range e.networks.Networks() {
		out[string(nw.ID)] = true
	}
	for _, ep := range e.networks.Endpoints() {
		out[string(ep.ID)] = true
	}
	for _, p := range e.pools.Pools() {
		if p.Space == ipam.LocalSpace {
			out[p.Subnet.String()] = true
		}
	}
	return out
}

// without is what Docker has that is not in tracked.
func (r *reading) without(tracked map[string]bool) map[string]bool {
	out := map[string]bool{}
	add := func(what string) {
		if !tracked[what] {
			out[what] = true
		}
	}
	for _, n := range r.Networks {
		add(n.ID)
		for _, s := range n.Subnets {
			add(s.Subnet.String())
		}
	}
	for _, ep := range r.Endpoints {
		add(ep.ID)
	}
	return out
}

// adopt takes up what Docker has, weave does not, and did not when Docker was read before: what was tracked then and is
// no more has been removed since Docker was read now.
func (e *engine) adopt(ctx context.Context, latest *reading, missing map[string]bool) {
	for _, n := range latest.Networks {
		if err := e.adoptPools(ctx, n, latest, missing); err != nil {
			e.log.WithError(err).WithField("network", n.ID).Error("take up pools that docker knows")
		}
		if err := e.adoptNetwork(ctx, n, latest, missing); err != nil {
			e.log.WithError(err).WithField("network", n.ID).Error("take up a network that docker knows")
		}
	}
}

func (e *engine) adoptNetwork(ctx context.Context, n dockerapi.Network, r *reading, missing map[string]bool) error {
	tracked := e.tracked()
	if !tracked[n.ID] && !missing[n.ID] {
		return nil
	}
	endpoints := slices.DeleteFunc(r.endpointsOf(n.ID), func(ep driver.Endpoint) bool { return tracked[string(ep.ID)] || !missing[string(ep.ID)] })
	// A network of Swarm's is made again by Swarm, but the endpoints that it has now are not.
	if !slices.Contains(r.Drivers, n.Driver) || n.Scope != "local" && len(endpoints) == 0 {
		return nil
	}
	if tracked[n.ID] && len(endpoints) == 0 {
		return nil
	}
	return e.networks.Adopt(ctx, createRequest(n, r.Drivers), endpoints)
}

// createRequest is the request by which Docker made n; drivers are the names of weave's.
func createRequest(n dockerapi.Network, drivers []string) *network.CreateNetworkRequest {
	generic := map[string]any{}
	for k, v := range n.Options {
		generic[k] = v
	}
	req := &network.CreateNetworkRequest{NetworkID: n.ID, Options: map[string]any{"com.docker.network.generic": generic}}
	if n.Internal {
		req.Options["com.docker.network.internal"] = true
	}
	space := ""
	if slices.Contains(drivers, n.IPAMDriver) {
		space = ipam.LocalSpace
	}
	for _, s := range n.Subnets {
		data := &network.IPAMData{AddressSpace: space, Pool: s.Subnet.String()}
		if s.Gateway.IsValid() {
			data.Gateway = netip.PrefixFrom(s.Gateway, s.Subnet.Bits()).String()
		}
		for name, addr := range s.Aux {
			if data.AuxAddresses == nil {
				data.AuxAddresses = map[string]any{}
			}
			data.AuxAddresses[name] = netip.PrefixFrom(addr, s.Subnet.Bits()).String()
		}
		if s.Subnet.Addr().Is4() {
			req.IPv4Data = append(req.IPv4Data, data)
		} else {
			req.IPv6Data = append(req.IPv6Data, data)
		}
	}
	return req
}

// adoptPools takes up the pools of n with the addresses in use, where there is no such pool.
func (e *engine) adoptPools(ctx context.Context, n dockerapi.Network, r *reading, missing map[string]bool) error {
	tracked := e.tracked()
	if !slices.Contains(r.Drivers, n.IPAMDriver) || n.Scope != "local" {
		return nil
	}
	var errs []error
	for _, s := range n.Subnets {
		if tracked[s.Subnet.String()] || !missing[s.Subnet.String()] {
			continue
		}
		errs = append(errs, e.adoptPool(ctx, s, r.inUse(n.ID, s)))
	}
	return errors.Join(errs...)
}

func (e *engine) adoptPool(ctx context.Context, s dockerapi.Subnet, inUse []netip.Addr) error {
	req := &dockeripam.RequestPoolRequest{AddressSpace: ipam.LocalSpace, Pool: s.Subnet.String(), V6: s.Subnet.Addr().Is6()}
	if s.Range.IsValid() {
		req.SubPool = s.Range.String()
	}
	pool, err := e.pools.RequestPool(ctx, req)
	if err != nil {
		return err
	}
	e.log.WithField("pool", pool.PoolID).Warn("taking up a pool that docker knows and the state does not")
	var errs []error
	for _, addr := range inUse {
		_, err := e.pools.RequestAddress(ctx, &dockeripam.RequestAddressRequest{PoolID: pool.PoolID, Address: addr.String()})
		if err != nil && !errors.Is(err, ipam.ErrAddressInUse) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// forget gives up what neither reading has, unless it may be in the making.
func (e *engine) forget(ctx context.Context, earlier, latest *reading) {
	if unknown, ok := e.otherName(earlier, latest); ok {
		e.log.WithField("network", unknown).Warnf("docker has this network, but under none of the driver names %q: "+
			"nothing that it may have forgotten is given up; set --driver-names", latest.Drivers)
		return
	}
	before := earlier.begun.Add(-e.timing.grace)
	known := map[driver.EndpointID]bool{}
	for _, r := range []*reading{earlier, latest} {
		for _, ep := range r.Endpoints {
			known[driver.EndpointID(ep.ID)] = true
		}
	}
	if _, err := e.networks.Forget(ctx, known, before); err != nil {
		e.log.WithError(err).Error("forget endpoints that docker has forgotten")
	}
	if e.docker.Reachable() != nil {
		return // names may be old, and whether a network has one has decided above
	}
	var gone []netip.Prefix
	for _, nw := range e.networks.Networks() {
		switch {
		case earlier.hasNetwork(string(nw.ID)) || latest.hasNetwork(string(nw.ID)):
		case nw.Created.Before(before) && e.forgetNetwork(ctx, nw):
			for _, p := range nw.Pools {
				gone = append(gone, p.Subnet)
			}
		}
	}
	forgotten, err := e.pools.Forget(ctx, ipam.LocalSpace, e.inUse(earlier, latest, gone), before)
	for _, f := range forgotten {
		e.log.WithFields(logrus.Fields{"pool": f.Pool, "address": f.Address}).Warn("released what docker has forgotten")
	}
	if err != nil {
		e.log.WithError(err).Error("release addresses that docker has forgotten")
	}
}

// otherName finds a tracked network that Docker has under a driver name that weave does not know to be its own.
func (e *engine) otherName(earlier, latest *reading) (driver.NetworkID, bool) {
	for _, nw := range e.networks.Networks() {
		if id := string(nw.ID); !earlier.hasNetwork(id) && !latest.hasNetwork(id) && e.docker.NetworkName(id) != "" {
			return nw.ID, true
		}
	}
	return "", false
}

// forgetNetwork removes a network that Docker has forgotten, unless an endpoint on it lives, and reports whether it did.
func (e *engine) forgetNetwork(ctx context.Context, nw driver.Network) bool {
	if slices.ContainsFunc(e.networks.Endpoints(), func(ep driver.Endpoint) bool { return ep.Network == nw.ID }) {
		return false
	}
	log := e.log.WithField("network", nw.ID)
	log.Warn("removing a network that docker has forgotten")
	if err := e.networks.DeleteNetwork(ctx, &network.DeleteNetworkRequest{NetworkID: string(nw.ID)}); err != nil {
		log.WithError(err).Error("remove a network that docker has forgotten")
		return false
	}
	return true
}

// inUse is what may be in use of the local address space. Where it is not certain that Docker tells of every address,
// all that are held are: networks of Swarm's and of other drivers have gateways that Engines before 28 don't tell.
// Pools without a network are in use if they have addresses, unless they are those of networks that are gone.
func (e *engine) inUse(earlier, latest *reading, gone []netip.Prefix) ipam.Known {
	out := ipam.Known{}
	for _, nw := range e.networks.Networks() {
		for _, p := range nw.Pools {
			gone = slices.DeleteFunc(gone, p.Subnet.Overlaps)
			out[p.Subnet] = append(out[p.Subnet], p.Gateway)
		}
	}
	told := map[netip.Prefix]bool{}
	for _, r := range []*reading{earlier, latest} {
		for _, n := range r.Networks {
			for _, s := range n.Subnets {
				told[s.Subnet] = n.Scope == "local" && slices.Contains(r.Drivers, n.Driver)
				out[s.Subnet] = append(out[s.Subnet], r.inUse(n.ID, s)...)
			}
		}
	}
	for _, p := range e.pools.Pools() {
		held := e.pools.Addresses(p.ID)
		if told[p.Subnet] || len(held) == 0 || slices.Contains(gone, p.Subnet) {
			continue
		}
		for _, a := range held {
			out[p.Subnet] = append(out[p.Subnet], a.Address)
		}
	}
	for _, ep := range e.networks.Endpoints() {
		for _, a := range ep.Addresses {
			out[a.Masked()] = append(out[a.Masked()], a.Addr())
		}
	}
	return out
}

func (r *reading) hasNetwork(id string) bool {
	return slices.ContainsFunc(r.Networks, func(n dockerapi.Network) bool { return n.ID == id })
}

// endpointsOf returns the endpoints on a network as the driver has them.
func (r *reading) endpointsOf(id string) []driver.Endpoint {
	var out []driver.Endpoint
	for _, ep := range r.Endpoints {
		if ep.Network == id {
			out = append(out, driver.Endpoint{ID: driver.EndpointID(ep.ID), MAC: ep.MAC, Addresses: ep.Addresses, Sandbox: ep.Sandbox})
		}
	}
	return out
}

// inUse returns the addresses of s that Docker tells of: of the gateway, auxiliary ones, and of the network's endpoints.
func (r *reading) inUse(network string, s dockerapi.Subnet) []netip.Addr {
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
