// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weaveplugin/weave/internal/wait"
)

// followHosts follows which hosts are there.
func (c *Cluster) followHosts(ctx context.Context) {
	c.followHostsBelow(ctx, c.keys.hosts(), c.hosts, func() { c.hostsRead = true })
}

// followHolders follows which hosts are there or may come back, and hears when this one was forgotten.
func (c *Cluster) followHolders(ctx context.Context) {
	c.followHostsBelow(ctx, c.keys.holders(), c.holders, func() {})
}

// followHostsBelow keeps a map of hosts as etcd has them. It calls read each time that all of them were read.
func (c *Cluster) followHostsBelow(ctx context.Context, prefix string, hosts map[string]Host, read func()) {
	c.follow(ctx, prefix, func(all bool, records []record) {
		c.changeHosts(func() {
			if all {
				clear(hosts)
				read()
			}
			for _, r := range records {
				delete(hosts, strings.TrimPrefix(r.key, prefix))
				if r.removed {
					continue
				}
				h, err := parseHost(r.key, prefix, r.value)
				if err != nil {
					c.log.WithError(err).Warnf("etcd: %s is left out", r.key)
					continue
				}
				hosts[h.ID] = h
			}
		})
	})
}

// changeHosts makes a change of the hosts, and notes what it means for others.
func (c *Cluster) changeHosts(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, wereRead := maps.Clone(c.hosts), c.hostsRead
	_, was := c.holders[c.id]
	change()
	c.noteGone(before)
	c.noteVanishedHosts(before)
	if _, is := c.holders[c.id]; was && !is {
		c.log.Warn("another host has had this one forgotten, or it was away for the grace period: it claims again " +
			"what it held")
		c.holding.doubt()
	}
	wait.Signal(c.hostsNow)
	changed := c.changedHosts(before)
	if len(changed) > 0 {
		c.changes.note() // networks or none: the endpoints of a host that is gone may have gone before it
	}
	for id := range changed {
		c.view.note(hostRecord(id))
	}
	for name, m := range c.networks {
		if !wereRead && c.hostsRead || m.isOn(changed) {
			c.changes.note(name)
		}
	}
}

// changedHosts returns the ids of the hosts that have come, gone, or are other ones than before. The caller holds the
// lock.
func (c *Cluster) changedHosts(before map[string]Host) map[string]bool {
	changed := map[string]bool{}
	for id, h := range c.hosts {
		if old, was := before[id]; !was || h != old {
			changed[id] = true
		}
	}
	for id := range before {
		if _, is := c.hosts[id]; !is {
			changed[id] = true
		}
	}
	return changed
}

// isOn reports whether an endpoint of the network is on one of the hosts.
func (m *membership) isOn(hosts map[string]bool) bool {
	if len(hosts) == 0 {
		return false
	}
	for _, ep := range m.remotes {
		if hosts[ep.Host] {
			return true
		}
	}
	return false
}

// changeAll notes that all networks may be other ones now.
func (c *Cluster) changeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name := range c.networks {
		c.changes.note(name)
	}
}

// noteGone notes the time for hosts that were there before a change and are not any more. It forgets the times of hosts
// that are back, and of those that don't come back: their addresses are others' by then. The caller holds the lock.
func (c *Cluster) noteGone(before map[string]Host) {
	for id := range before {
		if _, ok := c.hosts[id]; !ok {
			c.gone[id] = time.Now()
		}
	}
	maps.DeleteFunc(c.gone, func(id string, _ time.Time) bool {
		_, present := c.hosts[id]
		_, mayComeBack := c.holders[id]
		return present || !mayComeBack
	})
}

// HostsChanged has a value when hosts may have come or gone since it was taken, or have other addresses.
func (c *Cluster) HostsChanged() <-chan struct{} { return c.hostsNow }

// VTEPs returns the addresses of the other hosts that are there or may come back, and whether they are known: from
// etcd, or as of the last time when weave ran.
func (c *Cluster) VTEPs() (vteps []netip.Addr, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, hosts := range []map[string]Host{c.holders, c.hosts} {
		for id, h := range hosts {
			if id != c.id {
				vteps = append(vteps, h.VTEP)
			}
		}
	}
	return vteps, c.hostsRead
}

// HostStatus is a host as this one sees it.
type HostStatus struct {
	Host
	Present   bool      // its presence lease runs
	GoneSince time.Time // when this host noticed that the lease had run out; zero: it runs, or had before weave's start
	Endpoints int       // how many this host knows of there, on networks that both are on
	// MTU is that of the largest network that it has endpoints on and that this host is on, in bytes; of this host, of
	// the largest that it is on. 0: there is none.
	MTU int
}

// Hosts returns the hosts that are there or may come back, by name. This one is always among them, also while etcd has
// not answered yet.
func (c *Cluster) Hosts() []HostStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	endpoints, mtus := map[string]int{c.id: len(c.endpoints)}, map[string]int{}
	for _, m := range c.networks {
		mtus[c.id] = max(mtus[c.id], m.network.MTU)
		for _, ep := range m.remotes {
			endpoints[ep.Host]++
			mtus[ep.Host] = max(mtus[ep.Host], m.network.MTU)
		}
	}
	all := map[string]Host{c.id: c.self}
	maps.Copy(all, c.holders)
	maps.Copy(all, c.hosts)
	var out []HostStatus
	for id, h := range all {
		_, present := c.hosts[id]
		out = append(out, HostStatus{h, present, c.gone[id], endpoints[id], mtus[id]})
	}
	slices.SortFunc(out, func(a, b HostStatus) int {
		return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID)
	})
	return out
}
