package driver

import (
	"net/netip"
	"slices"
	"time"
)

// Vacant reports that an address of a network's pool, which IPAM holds since then, is nobody's: it is neither the gateway
// nor reserved, no endpoint that has it is living, and none is about to have it or to give it back. IPAM may then hand it
// out though it still counts it as held: Docker forgets endpoints without releasing their addresses when it was killed. Of a
// pool that no network has nothing is said: false.
func (d *Driver) Vacant(space string, subnet netip.Prefix, addr netip.Addr, since time.Time) bool {
	if d.recent(since) { // its endpoint is about to be made
		return false
	}
	known := false
	for _, nw := range d.Networks() {
		i := slices.IndexFunc(nw.Pools, func(p Pool) bool { return p.Space == space && p.Subnet == subnet })
		if i < 0 {
			continue
		}
		known = true
		if p := nw.Pools[i]; p.Gateway == addr || slices.Contains(p.Reserved, addr) || d.departing(nw.ID, addr) {
			return false
		}
		for _, ep := range d.endpointsOf(nw.ID) {
			if !ep.has(addr) {
				continue
			}
			if alive, err := d.living(ep); alive || err != nil {
				return false
			}
		}
	}
	return known
}

// has reports whether the address is one of the endpoint's.
func (ep Endpoint) has(addr netip.Addr) bool {
	return slices.ContainsFunc(ep.Addresses, func(a netip.Prefix) bool { return a.Addr() == addr })
}

// departure is an endpoint that Docker has had deleted, and whose addresses it releases next.
type departure struct {
	Endpoint
	at time.Time
}

func (d *Driver) depart(ep Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.departures = slices.DeleteFunc(d.departures, func(old departure) bool { return !d.recentLocked(old.at) })
	d.departures = append(d.departures, departure{ep, time.Now()})
}

// departing reports whether Docker is about to release the address.
func (d *Driver) departing(nw NetworkID, addr netip.Addr) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.ContainsFunc(d.departures, func(x departure) bool {
		return x.Network == nw && x.has(addr) && d.recentLocked(x.at)
	})
}
