// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// tracker holds in memory what the driver tracks: networks, endpoints and their carriers. It is the only writer of
// these. What it returns are copies, and each change goes to the feed, with its cause. Its lock is never held while
// anything waits.
type tracker struct {
	mu        sync.RWMutex
	networks  map[NetworkID]Network
	endpoints map[EndpointID]Endpoint
	hostEnds  map[string]EndpointID // by name
	feed      feed
}

func newTracker() *tracker {
	return &tracker{
		networks:  map[NetworkID]Network{},
		endpoints: map[EndpointID]Endpoint{},
		hostEnds:  map[string]EndpointID{},
		feed:      feed{subscriptions: map[*Subscription]bool{}},
	}
}

// load sets what is tracked at the start. It publishes no changes.
func (t *tracker) load(networks []Network, endpoints []Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, nw := range networks {
		t.networks[nw.ID] = nw
	}
	for _, ep := range endpoints {
		t.endpoints[ep.ID] = ep
		t.hostEnds[ep.HostEnd] = ep.ID
	}
}

// claimNetwork adds a network that is about to be made. It returns ErrConflict if another network has its bridge.
func (t *tracker) claimNetwork(nw Network) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, other := range t.networks {
		if other.Bridge == nw.Bridge && other.ID != nw.ID {
			return fmt.Errorf("%w: bridge %s is that of network %s: networks don't share one",
				ErrConflict, nw.Bridge, other.ID)
		}
	}
	nw.Phase = Making
	t.networks[nw.ID] = nw
	return nil
}

// setNetwork replaces a tracked network. It publishes a change if the network was not made until now.
func (t *tracker) setNetwork(nw Network, cause Cause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.networks[nw.ID]
	t.networks[nw.ID] = nw
	if nw.Phase == Made && old.Phase != Made {
		t.feed.publish(Change{Kind: NetworkMade, Network: nw, Cause: cause})
	}
}

// removeNetwork removes a network. It publishes a change if the network had been made.
func (t *tracker) removeNetwork(id NetworkID, cause Cause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	nw, ok := t.networks[id]
	if !ok {
		return
	}
	delete(t.networks, id)
	if nw.Phase != Making {
		t.feed.publish(Change{Kind: NetworkRemoved, Network: nw, Cause: cause})
	}
}

// addEndpoint adds an endpoint whose veth pair is there.
func (t *tracker) addEndpoint(ep Endpoint, cause Cause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endpoints[ep.ID] = ep
	t.hostEnds[ep.HostEnd] = ep.ID
	t.feed.publish(Change{Kind: EndpointCreated, Endpoint: ep, Cause: cause})
}

// removeEndpoint removes an endpoint.
func (t *tracker) removeEndpoint(id EndpointID, cause Cause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ep, ok := t.endpoints[id]
	if !ok {
		return
	}
	delete(t.endpoints, id)
	delete(t.hostEnds, ep.HostEnd)
	t.feed.publish(Change{Kind: EndpointDeleted, Endpoint: ep, Cause: cause})
}

// setJoined puts an endpoint into a sandbox, with the gateways that it has there, or, if that is empty, out of it. It
// has no carrier then, since Docker moves the container end only after that.
func (t *tracker) setJoined(now Endpoint, cause Cause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ep, ok := t.endpoints[now.ID]
	if !ok || ep.Sandbox == now.Sandbox {
		return
	}
	ep.Sandbox, ep.Gateways, ep.External, ep.Carrier = now.Sandbox, now.Gateways, now.External, false
	t.endpoints[ep.ID] = ep
	kind := EndpointJoined
	if now.Sandbox == "" {
		kind = EndpointLeft
	}
	t.feed.publish(Change{Kind: kind, Endpoint: ep, Cause: cause})
}

// setCarrier records whether a host end has its carrier, which matters only while the endpoint is in a sandbox. Links
// that are no endpoint's host end are ignored.
func (t *tracker) setCarrier(hostEnd string, up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ep, ok := t.endpoints[t.hostEnds[hostEnd]]
	if !ok || ep.Sandbox == "" || ep.Carrier == up {
		return
	}
	ep.Carrier = up
	t.endpoints[ep.ID] = ep
	kind := EndpointDown
	if up {
		kind = EndpointUp
	}
	t.feed.publish(Change{Kind: kind, Endpoint: ep})
}

// setExternal records whether Docker has made the endpoint's gateways the container's way out.
func (t *tracker) setExternal(id EndpointID, external bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ep, ok := t.endpoints[id]; ok {
		ep.External = external
		t.endpoints[id] = ep
	}
}

// setAddresses replaces an endpoint's addresses.
func (t *tracker) setAddresses(id EndpointID, addresses []netip.Prefix, cause Cause) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ep, ok := t.endpoints[id]
	if !ok {
		return
	}
	ep.Addresses = addresses
	t.endpoints[id] = ep
	t.feed.publish(Change{Kind: EndpointShed, Endpoint: ep, Cause: cause})
}

// Networks returns the tracked networks, oldest first.
func (t *tracker) Networks() []Network {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return sortedNetworks(t.networks)
}

// Endpoints returns the tracked endpoints, oldest first.
func (t *tracker) Endpoints() []Endpoint {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return sortedEndpoints(t.endpoints)
}

// network returns the network of this id.
func (t *tracker) network(id NetworkID) (Network, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	nw, ok := t.networks[id]
	return nw, ok
}

// networkOf returns the network that is the one of the cluster with that name.
func (t *tracker) networkOf(cluster string) (Network, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, nw := range t.networks {
		if nw.Cluster == cluster && cluster != "" {
			return nw, true
		}
	}
	return Network{}, false
}

// endpoint returns the endpoint of this id.
func (t *tracker) endpoint(id EndpointID) (Endpoint, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	ep, ok := t.endpoints[id]
	return ep, ok
}

// byHostEnd returns the endpoint whose host end has this name, with its network.
func (t *tracker) byHostEnd(name string) (Network, Endpoint, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	ep, ok := t.endpoints[t.hostEnds[name]]
	return t.networks[ep.Network], ep, ok
}

// ofLink returns the network, and the endpoint if it is a host end, that a link belongs to: by its name or, if somebody
// has renamed it, by its alias.
func (t *tracker) ofLink(link linkID, stateID string) (id NetworkID, ep Endpoint, ok bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if ep, ok := t.endpoints[t.hostEnds[link.name]]; ok {
		return ep.Network, ep, true
	}
	for _, nw := range t.networks {
		if nw.Bridge == link.name || nw.VNI != 0 && deviceName(nw.ID) == link.name {
			return nw.ID, Endpoint{}, true
		}
	}
	if a, ours := parseAlias(link.alias); ours && a.State == stateID {
		if ep, ok := t.endpoints[EndpointID(a.ID)]; ok && a.Kind == forEndpoint {
			return ep.Network, ep, true
		}
		nw, ok := t.networks[NetworkID(a.ID)]
		return nw.ID, Endpoint{}, ok && a.Kind == forNetwork
	}
	return "", Endpoint{}, false
}

// publish tells of a change of what is not tracked.
func (t *tracker) publish(c Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.feed.publish(c)
}

// endpointsOf returns the endpoints of a network, in no order.
func (t *tracker) endpointsOf(id NetworkID) []Endpoint {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []Endpoint
	for _, ep := range t.endpoints {
		if ep.Network == id {
			out = append(out, ep)
		}
	}
	return out
}

// Subscribe returns a subscription to all changes from now on, and what is tracked now. The buffer is how many changes
// are kept for a subscriber that is busy.
func (t *tracker) Subscribe(buffer int) (*Subscription, Snapshot) {
	s := &Subscription{tracker: t, ready: make(chan struct{}, 1), limit: max(buffer, 1)}
	t.feed.mu.Lock()
	t.feed.subscriptions[s] = true
	t.feed.mu.Unlock()
	return s, s.Resync()
}

// snapshotLocked returns what the feed has told of until the change with this number. A network that is being made is
// left out: a change tells when it is made, and none when that fails. The caller holds the lock.
func (t *tracker) snapshotLocked(seq uint64) Snapshot {
	networks := slices.DeleteFunc(sortedNetworks(t.networks), func(nw Network) bool { return nw.Phase == Making })
	return Snapshot{Seq: seq, Networks: networks, Endpoints: sortedEndpoints(t.endpoints)}
}

func sortedNetworks(networks map[NetworkID]Network) []Network {
	out := make([]Network, 0, len(networks))
	for _, nw := range networks {
		out = append(out, nw)
	}
	slices.SortFunc(out, func(a, b Network) int { return byAge(a.Created, b.Created, a.ID, b.ID) })
	return out
}

func sortedEndpoints(endpoints map[EndpointID]Endpoint) []Endpoint {
	out := make([]Endpoint, 0, len(endpoints))
	for _, ep := range endpoints {
		out = append(out, ep)
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return byAge(a.Created, b.Created, a.ID, b.ID) })
	return out
}

// byAge compares two moments, and two ids where these are the same.
func byAge[ID cmp.Ordered](a, b time.Time, idA, idB ID) int {
	return cmp.Or(a.Compare(b), cmp.Compare(idA, idB))
}
