// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Reclaimable reports whether IPAM may hand out an address again that has been held since the given time. A Docker
// daemon that is killed forgets endpoints without releasing their addresses. The address must be neither the gateway
// nor reserved, no living endpoint may have it, and Docker must not be about to use or to release it. It is false for
// a pool that no network has.
func (d *Driver) Reclaimable(space string, subnet netip.Prefix, addr netip.Addr, since time.Time) bool {
	if d.docker.mayFollow(since) { // its endpoint may be about to be made
		return false
	}
	known := false
	for _, nw := range d.tracked.Networks() {
		i := slices.IndexFunc(nw.Pools, func(p Pool) bool { return p.Space == space && p.Subnet == subnet })
		if i < 0 {
			continue
		}
		known = true
		if p := nw.Pools[i]; p.Gateway == addr || slices.Contains(p.Reserved, addr) {
			return false
		}
		if d.deleted.has(nw.ID, addr, d.docker) || d.hasLivingEndpoint(nw.ID, addr) {
			return false
		}
	}
	return known
}

// hasLivingEndpoint reports whether an endpoint has the address that is alive, or may be.
func (d *Driver) hasLivingEndpoint(nw NetworkID, addr netip.Addr) bool {
	for _, ep := range d.tracked.endpointsOf(nw) {
		if !ep.has(addr) {
			continue
		}
		if alive, err := d.alive(ep); alive || err != nil {
			return true
		}
	}
	return false
}

// deletedEndpoints are the endpoints that Docker has deleted lately. It releases their addresses next.
type deletedEndpoints struct {
	mu   sync.Mutex
	list []deletedEndpoint
}

type deletedEndpoint struct {
	Endpoint
	at time.Time
}

func (l *deletedEndpoints) add(ep Endpoint, docker *dockerRun) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = slices.DeleteFunc(l.list, func(old deletedEndpoint) bool { return !docker.mayFollow(old.at) })
	l.list = append(l.list, deletedEndpoint{ep, time.Now()})
}

// has reports whether Docker is about to release the address.
func (l *deletedEndpoints) has(nw NetworkID, addr netip.Addr, docker *dockerRun) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.list, func(x deletedEndpoint) bool {
		return x.Network == nw && x.has(addr) && docker.mayFollow(x.at)
	})
}
