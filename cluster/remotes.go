// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// membership is this host's view of a network that it is on.
type membership struct {
	network  Network
	remotes  map[string]Endpoint // on other hosts, by key
	vanished map[string]Endpoint // those of before that may come back, see settle.go
	seen     bool                // remotes are known
	stop     context.CancelFunc  // ends following it; nil: it is not followed
	lost     []netip.Prefix      // blocks that others have got, see noteLost
	isOther  bool                // the cluster has another network of this name by now: this host is not on it
}

func newMembership(nw Network) *membership {
	return &membership{network: nw, remotes: map[string]Endpoint{}, vanished: map[string]Endpoint{}}
}

// Remote is an endpoint on another host that is there, or may still be there: see settle.go.
type Remote struct {
	Endpoint
	VTEP netip.Addr
}

// Remotes returns the endpoints of a network on other hosts, and whether they are known: from etcd, or as of the last
// time when weave ran. There are none for a host that was without etcd for longer than the grace period, or that
// another machine is in the cluster as: its own addresses may be others' by then; nor of a network that was removed and
// made again while this host was away.
func (c *Cluster) Remotes(network string) (remotes []Remote, seen bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.networks[network]
	if m == nil {
		return nil, false
	}
	if m.isOther || c.holding.isOthers() {
		return nil, true
	}
	for _, ep := range slices.AppendSeq(m.stillThere(), maps.Values(m.remotes)) {
		if h, ok := c.hostOf(ep); ok {
			remotes = append(remotes, Remote{ep, h.VTEP})
		}
	}
	slices.SortFunc(remotes, func(a, b Remote) int { return strings.Compare(a.Host+a.ID, b.Host+b.ID) })
	return remotes, m.seen && c.hostsRead
}

// Changed has a value while networks have changed that were not taken yet, and when hosts have come or gone.
func (c *Cluster) Changed() <-chan struct{} { return c.changes.ready }

// TakeChanged returns the names of the networks that have changed since the last call: their endpoints or hosts on
// other machines, or that this host has joined or left them.
func (c *Cluster) TakeChanged() []string { return c.changes.take() }

// followNetwork starts to follow a network's endpoints, unless that is done already or the cluster does not run yet.
// The caller holds the lock.
func (c *Cluster) followNetwork(m *membership) {
	if c.run == nil || c.run.Err() != nil || m.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(c.run)
	m.stop = stop
	name := m.network.Name
	c.following.Go(func() {
		c.follow(ctx, c.keys.endpoints(name), func(all bool, records []record) {
			c.mu.Lock()
			c.applyEndpoints(m, all, records)
			c.mu.Unlock()
			c.changes.note(name)
		})
	})
}

// applyEndpoints takes over what etcd has of a network's endpoints: all of it, or what has changed. The caller holds
// the lock.
func (c *Cluster) applyEndpoints(m *membership, all bool, records []record) {
	before := m.remotes
	if all {
		m.remotes, m.seen = make(map[string]Endpoint, len(records)), true
		defer c.noteRemoved(m, before)
	}
	for _, r := range records {
		old, was := before[r.key]
		ep, is := c.remote(m.network, r)
		switch {
		case is:
			m.remotes[r.key] = ep
			delete(m.vanished, r.key)
		case was:
			delete(m.remotes, r.key)
			c.noteVanished(m, r.key, old)
		}
		if was != is || !ep.Equal(old) {
			c.view.note(c.endpointRecord(r.key))
		}
	}
}

// noteRemoved has the records of the endpoints removed that were there before and are not any more.
func (c *Cluster) noteRemoved(m *membership, before map[string]Endpoint) {
	for key, ep := range before {
		if _, is := m.remotes[key]; !is {
			c.noteVanished(m, key, ep)
			c.view.note(c.endpointRecord(key))
		}
	}
}

// remote returns the endpoint that a record is of, with what one of the network can have; ok is false if it is of none
// on another host.
func (c *Cluster) remote(nw Network, r record) (ep Endpoint, ok bool) {
	if r.removed {
		return Endpoint{}, false
	}
	ep, err := c.keys.parseEndpoint(nw.Name, r.key, r.value)
	if err != nil {
		c.log.WithError(err).Warnf("etcd: %s is left out", r.key)
		return Endpoint{}, false
	}
	ep, without := ep.bounded(nw)
	if len(without) > 0 {
		c.log.Warnf("etcd: of %s is left out: %s", r.key, strings.Join(without, ", "))
	}
	return ep, ep.Host != c.id
}
