package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weaveplugin/weave/driver"
)

const (
	// refreshDeadline is how long a listing waits for new names.
	refreshDeadline = time.Second
	// young is the age up to which a network or an endpoint may still get a name; some endpoints of Swarm's never do.
	young = 2 * time.Second
)

// refresh waits for names that are as new as the call: Docker tells of a name only after it has asked weave for what
// bears it.
func (s *Server) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, refreshDeadline)
	defer cancel()
	s.options.Names.Refresh(ctx)
}

func (s *Server) networks(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	list := s.listNetworks()
	if slices.ContainsFunc(list, func(n Network) bool { return n.Name == "" && time.Since(n.Created) < young }) {
		s.refresh(ctx)
		list = s.listNetworks()
	}
	return list, nil
}

// listNetworks returns the networks with their names, by name.
func (s *Server) listNetworks() []Network {
	endpoints := map[driver.NetworkID]int{}
	for _, e := range s.options.Tracker.Endpoints() {
		endpoints[e.Network]++
	}
	tracked := s.options.Tracker.Networks()
	list := make([]Network, 0, len(tracked))
	for _, n := range tracked {
		list = append(list, Network{
			ID:        string(n.ID),
			Name:      s.options.Names.NetworkName(string(n.ID)),
			Bridge:    n.Bridge,
			Foreign:   n.Foreign,
			MTU:       n.MTU,
			Internal:  n.Internal,
			Multicast: n.Multicast,
			Subnets:   subnets(n.Pools),
			Endpoints: endpoints[n.ID],
			Created:   n.Created,
		})
	}
	slices.SortFunc(list, func(a, b Network) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func subnets(pools []driver.Pool) []Subnet {
	list := make([]Subnet, 0, len(pools))
	for _, p := range pools {
		list = append(list, Subnet{Subnet: p.Subnet, Gateway: p.Gateway})
	}
	return list
}

func (s *Server) endpoints(ctx context.Context, r *http.Request) (any, error) {
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest(err)
	}
	l, err := s.choose(q)
	if err != nil || l.lacksName {
		s.refresh(ctx)
		l, err = s.choose(q)
	}
	if err != nil {
		return nil, err
	}
	if q.Live != "" {
		return s.addLive(ctx, l, q.Live), nil
	}
	return l.entries, nil
}

// listing is what a query's filters let through at one moment.
type listing struct {
	entries   []Endpoint
	tracked   []driver.Endpoint // those of the chosen networks
	networks  map[driver.NetworkID]driver.Network
	lacksName bool // a name is missing that is likely to be known soon, or a container that was asked for
}

func (s *Server) choose(q Query) (listing, error) {
	endpoints := s.options.Tracker.Endpoints() // first: so that the network of each is among the networks
	l := listing{networks: map[driver.NetworkID]driver.Network{}}
	for _, n := range s.options.Tracker.Networks() {
		l.networks[n.ID] = n
	}
	chosen, err := s.chooseNetworks(q.Networks, l.networks)
	if err != nil {
		return listing{}, err
	}
	l.tracked = make([]driver.Endpoint, 0, 64)
	for _, e := range endpoints {
		if len(q.Networks) == 0 || chosen[string(e.Network)] {
			l.tracked = append(l.tracked, e)
		}
	}
	all := s.listEndpoints(l.tracked, l.networks)
	l.lacksName = slices.ContainsFunc(all, func(e Endpoint) bool {
		return (e.ContainerID == "" || e.NetworkName == "") && time.Since(e.Created) < young
	})
	var missed bool
	l.entries, missed = chooseContainers(q.Containers, all)
	l.lacksName = l.lacksName || missed
	return l, nil
}

// listEndpoints returns the endpoints with their names, by network, then by address.
func (s *Server) listEndpoints(tracked []driver.Endpoint, networks map[driver.NetworkID]driver.Network) []Endpoint {
	list := make([]Endpoint, 0, len(tracked))
	for _, e := range tracked {
		containerID, containerName := s.options.Names.Container(string(e.ID))
		list = append(list, Endpoint{
			ID:            string(e.ID),
			NetworkID:     string(e.Network),
			NetworkName:   s.options.Names.NetworkName(string(e.Network)),
			ContainerID:   containerID,
			ContainerName: containerName,
			MAC:           e.MAC,
			Addresses:     orEmpty(e.Addresses),
			Bridge:        networks[e.Network].Bridge,
			HostEnd:       e.HostEnd,
			Sandbox:       e.Sandbox,
			State:         e.State,
			Created:       e.Created,
		})
	}
	slices.SortFunc(list, func(a, b Endpoint) int {
		return cmp.Or(
			cmp.Compare(a.NetworkName, b.NetworkName),
			cmp.Compare(a.NetworkID, b.NetworkID),
			slices.CompareFunc(a.Addresses, b.Addresses, netip.Prefix.Compare),
			cmp.Compare(a.ID, b.ID),
		)
	})
	return list
}

// addLive asks what is there of the entries and adds it, with the drift. It returns the entries without those that went
// away meanwhile.
func (s *Server) addLive(ctx context.Context, l listing, source driver.Source) []Endpoint {
	before := byID(l.tracked)
	wanted := make([]driver.Endpoint, 0, len(l.entries))
	for _, e := range l.entries {
		wanted = append(wanted, before[driver.EndpointID(e.ID)])
	}
	observed := s.options.Tracker.Observe(ctx, wanted, source)
	after := byID(s.options.Tracker.Endpoints())

	there := l.entries[:0]
	for i, e := range wanted {
		now, ok := after[e.ID]
		if !ok {
			continue
		}
		entry := l.entries[i]
		o, ok := observed[e.ID]
		if ok {
			entry.Drift = driftOfBoth(drift(l.networks[e.Network], e, o), drift(l.networks[e.Network], now, o))
		} else {
			o.Err = "not observed"
			entry.Drift = []Drift{driftf(NotObserved, "not observed: the time ran out")}
		}
		o.Source = cmp.Or(o.Source, source)
		entry.Live = live(o)
		there = append(there, entry)
	}
	return there
}

// driftOfBoth returns what is in both: what an endpoint that was observed while it joined or left shows against its
// earlier or its later record only is no drift.
func driftOfBoth(before, after []Drift) []Drift {
	return slices.DeleteFunc(before, func(d Drift) bool { return !slices.Contains(after, d) })
}

func byID(endpoints []driver.Endpoint) map[driver.EndpointID]driver.Endpoint {
	m := make(map[driver.EndpointID]driver.Endpoint, len(endpoints))
	for _, e := range endpoints {
		m[e.ID] = e
	}
	return m
}

func live(o driver.Observation) *Live {
	l := &Live{Source: o.Source, Error: o.Err, Bridge: o.Bridge}
	if o.Inside != nil {
		l.Name, l.MAC, l.Addresses, l.Up = o.Inside.Name, o.Inside.MAC.String(), o.Inside.Addresses, o.Inside.Up
	}
	return l
}

// chooseNetworks returns the ids of the networks that the filters mean.
func (s *Server) chooseNetworks(filters []string, networks map[driver.NetworkID]driver.Network) (map[string]bool, error) {
	known := make([]named, 0, len(networks))
	if len(filters) > 0 {
		for id := range networks {
			known = append(known, named{string(id), s.options.Names.NetworkName(string(id))})
		}
	}
	chosen := map[string]bool{}
	for _, f := range filters {
		ids, exact := match(f, known)
		if len(ids) == 0 {
			return nil, &Error{http.StatusNotFound, fmt.Sprintf("parameter %s: %q: weave has no such network here", paramNetwork, f)}
		}
		if len(ids) > 1 && !exact {
			return nil, badRequest(fmt.Errorf("parameter %s: %q: %d networks begin so; want more of the id, or the name", paramNetwork, f, len(ids)))
		}
		for id := range ids {
			chosen[id] = true
		}
	}
	return chosen, nil
}

// chooseContainers returns those of list that are in a container that one of the filters means; all if there is none.
// missed tells that a filter means no container.
func chooseContainers(filters []string, list []Endpoint) (chosen []Endpoint, missed bool) {
	if len(filters) == 0 {
		return list, false
	}
	known := make([]named, 0, len(list))
	for _, e := range list {
		if e.ContainerID != "" {
			known = append(known, named{e.ContainerID, e.ContainerName})
		}
	}
	meant := map[string]bool{}
	for _, f := range filters {
		ids, _ := match(strings.TrimPrefix(f, "/"), known) // Docker's own spelling of a name begins with a slash
		missed = missed || len(ids) == 0
		for id := range ids {
			meant[id] = true
		}
	}
	return slices.DeleteFunc(list, func(e Endpoint) bool { return !meant[e.ContainerID] }), missed
}

// named is something that has an id and perhaps a name.
type named struct{ id, name string }

// minIDPrefix is how much of an id has to be given for it to stand for the whole.
const minIDPrefix = 4

// match returns the ids of those that filter means: by whole id or by name, which is exact; only if none is, those whose
// ids begin with filter.
func match(filter string, known []named) (ids map[string]bool, exact bool) {
	ids = map[string]bool{}
	for _, k := range known {
		if filter == k.id || filter == k.name && filter != "" {
			ids[k.id] = true
		}
	}
	if len(ids) > 0 {
		return ids, true
	}
	for _, k := range known {
		if len(filter) >= minIDPrefix && strings.HasPrefix(k.id, filter) {
			ids[k.id] = true
		}
	}
	return ids, false
}
