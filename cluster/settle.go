// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/internal/mac"
)

// When hosts lose etcd together, and not each other, their leases run out while traffic between them goes on. As soon
// as etcd answers again each host sees that the others have gone, until they have registered again. So a host that has
// lost its own lease keeps what has vanished meanwhile, and takes it away only when the others have had a lease's time
// to come back after it has done so itself.

// unsettle notes that this host is not in the cluster any more as it was.
func (c *Cluster) unsettle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isUnsettled = true
}

// settle takes away what has vanished and has not come back.
func (c *Cluster) settle() {
	c.mu.Lock()
	c.isUnsettled = false
	clear(c.vanished)
	for _, m := range c.networks {
		clear(m.vanished)
	}
	c.mu.Unlock()
	c.changeAll()
}

// noteVanishedHosts keeps hosts that were there before a change and are not any more. The caller holds the lock.
func (c *Cluster) noteVanishedHosts(before map[string]Host) {
	for id, h := range before {
		if _, is := c.hosts[id]; !is && c.isUnsettled {
			c.vanished[id] = h
		}
	}
	for id := range c.hosts {
		delete(c.vanished, id)
	}
}

// noteVanished keeps an endpoint that is not there any more. The caller holds the lock.
func (c *Cluster) noteVanished(m *membership, key string, ep Endpoint) {
	if c.isUnsettled {
		m.vanished[key] = ep
	}
}

// hostOf returns the host that an endpoint is on, or was on before that vanished. The caller holds the lock.
func (c *Cluster) hostOf(ep Endpoint) (Host, bool) {
	if h, ok := c.hosts[ep.Host]; ok {
		return h, true
	}
	h, ok := c.vanished[ep.Host]
	return h, ok
}

// stillThere returns the endpoints that have vanished and may come back: of those whose address or MAC another one has
// by now none.
func (m *membership) stillThere() (out []Endpoint) {
	if len(m.vanished) == 0 {
		return nil
	}
	macs, addresses := map[mac.Address]bool{}, map[netip.Addr]bool{}
	for _, ep := range m.remotes {
		macs[ep.MAC] = true
		for _, a := range ep.Addresses {
			addresses[a.Addr()] = true
		}
	}
	for _, ep := range m.vanished {
		isTaken := func(a netip.Prefix) bool { return addresses[a.Addr()] }
		if !macs[ep.MAC] && !slices.ContainsFunc(ep.Addresses, isTaken) {
			out = append(out, ep)
		}
	}
	return out
}
