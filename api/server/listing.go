// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
)

const (
	// refreshTimeout is how long a listing waits for new names.
	refreshTimeout = time.Second
	// namingTime is how long after its creation a network or an endpoint may still get its name. Some of Swarm's
	// endpoints never get one; no listing waits for those.
	namingTime = 2 * time.Second
)

// refresh waits for names as new as the call: Docker's API has a name only some time after Docker has had weave make
// the network or the endpoint.
func (s *Server) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	s.options.Names.Refresh(ctx)
}

func (s *Server) networks(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	list := s.listNetworks()
	lacksName := func(n api.Network) bool { return n.Name == "" && time.Since(n.Created) < namingTime }
	if slices.ContainsFunc(list, lacksName) {
		s.refresh(ctx)
		list = s.listNetworks()
	}
	return list, nil
}

// listNetworks returns the networks with their names, by name.
func (s *Server) listNetworks() []api.Network {
	endpoints := map[driver.NetworkID]int{}
	for _, e := range s.options.Tracker.Endpoints() {
		endpoints[e.Network]++
	}
	tracked := s.options.Tracker.Networks()
	list := make([]api.Network, 0, len(tracked))
	for _, n := range tracked {
		list = append(list, s.toNetwork(n, endpoints[n.ID]))
	}
	slices.SortFunc(list, func(a, b api.Network) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// gateway names the way out of a network.
func gateway(def driver.Definition) string {
	if def.Internal {
		return ""
	}
	return string(cmp.Or(def.Gateway, driver.GatewayDocker))
}

// toNetwork returns n, which has so many endpoints, as the API lists it.
func (s *Server) toNetwork(n driver.Network, endpoints int) api.Network {
	subnets := make([]api.Subnet, 0, len(n.Pools))
	for _, p := range n.Pools {
		subnets = append(subnets, api.Subnet{Subnet: p.Subnet, Gateway: p.Gateway})
	}
	return api.Network{
		ID:        string(n.ID),
		Name:      s.options.Names.NetworkName(string(n.ID)),
		Bridge:    n.Bridge,
		Foreign:   n.Foreign,
		MTU:       n.MTU,
		Internal:  n.Internal,
		Multicast: n.Multicast,
		Gateway:   gateway(n.Definition),
		NAT:       string(n.NAT),
		HostApart: n.HostApart,
		Cluster:   n.Cluster,
		VNI:       n.VNI,
		Subnets:   subnets,
		Endpoints: endpoints,
		Created:   n.Created,
	}
}

func (s *Server) endpoints(ctx context.Context, r *http.Request) (any, error) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest(err)
	}
	l, err := s.selectEndpoints(q)
	if err != nil || l.lacksName {
		s.refresh(ctx)
		l, err = s.selectEndpoints(q)
	}
	if err != nil {
		return nil, err
	}
	if q.Live != "" {
		return s.addLive(ctx, l, q.Live), nil
	}
	return l.entries, nil
}

// listing is what a query selects at one moment.
type listing struct {
	entries   []api.Endpoint
	tracked   map[driver.EndpointID]driver.Endpoint // all of the entries, perhaps more
	networks  map[driver.NetworkID]driver.Network
	lacksName bool // new names may complete it: an endpoint has none yet, or a container filter matches none
}

// selectEndpoints lists the endpoints that q selects.
func (s *Server) selectEndpoints(q api.Query) (listing, error) {
	endpoints := s.options.Tracker.Endpoints() // before the networks, so that each endpoint's network is among them
	l := listing{tracked: map[driver.EndpointID]driver.Endpoint{}, networks: map[driver.NetworkID]driver.Network{}}
	networks := s.options.Tracker.Networks()
	for _, n := range networks {
		l.networks[n.ID] = n
	}
	selected, err := s.filterNetworks(q.Networks, l.networks)
	if err != nil {
		return listing{}, err
	}
	l.entries = make([]api.Endpoint, 0, len(endpoints))
	waysOut := driver.WaysOut(networks, endpoints)
	for _, e := range endpoints {
		if len(q.Networks) == 0 || selected[e.Network] {
			l.tracked[e.ID] = e
			entry := s.toEndpoint(e, l.networks[e.Network])
			entry.Gateway = waysOut[e.ID]
			l.entries = append(l.entries, entry)
		}
	}
	if !q.Local && q.Live == "" {
		for id, n := range l.networks {
			if len(q.Networks) == 0 || selected[id] {
				l.entries = append(l.entries, s.listRemotes(n)...)
			}
		}
	}
	slices.SortFunc(l.entries, compareEndpoints)
	l.lacksName = slices.ContainsFunc(l.entries, func(e api.Endpoint) bool {
		return (e.ContainerID == "" || e.NetworkName == "") && time.Since(e.Created) < namingTime
	})
	var unmatched bool
	l.entries, unmatched = filterContainers(q.Containers, l.entries)
	l.lacksName = l.lacksName || unmatched
	return l, nil
}

// toEndpoint returns e, of network n, as the API lists it.
func (s *Server) toEndpoint(e driver.Endpoint, n driver.Network) api.Endpoint {
	containerID, containerName := s.options.Names.Container(string(e.ID))
	return api.Endpoint{
		ID:            string(e.ID),
		NetworkID:     string(e.Network),
		NetworkName:   s.options.Names.NetworkName(string(e.Network)),
		ContainerID:   containerID,
		ContainerName: containerName,
		MAC:           e.MAC.String(),
		Addresses:     orEmpty(e.Addresses),
		Bridge:        n.Bridge,
		HostEnd:       e.HostEnd,
		Sandbox:       e.Sandbox,
		State:         stateOf(e),
		Created:       e.Created,
		Host:          s.selfName(),
	}
}

func stateOf(e driver.Endpoint) api.EndpointState { return api.EndpointState(e.State()) }

// compareEndpoints orders endpoints by network, then by address.
func compareEndpoints(a, b api.Endpoint) int {
	return cmp.Or(
		cmp.Compare(a.NetworkName, b.NetworkName),
		cmp.Compare(a.NetworkID, b.NetworkID),
		slices.CompareFunc(a.Addresses, b.Addresses, netip.Prefix.Compare),
		cmp.Compare(a.ID, b.ID),
	)
}
