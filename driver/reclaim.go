package driver

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Reclaimable reports whether IPAM may hand out an address of a network's pool though it holds it since that time: Docker
// forgets endpoints without releasing their addresses when it is killed. The address must be neither the gateway nor
// reserved, no living endpoint may have it, and none may be about to take it or to give it back. Of a pool that no network
// has, nothing is known: false.
func (d *Driver) Reclaimable(space string, subnet netip.Prefix, addr netip.Addr, since time.Time) bool {
	if d.docker.mayFollow(since) { // its endpoint is about to be made
		return false
	}
	known := false
	for _, nw := range d.tracked.Networks() {
		i := slices.IndexFunc(nw.Pools, func(p Pool) bool { return p.Space == space && p.Subnet == subnet })
		if i < 0 {
			continue
		}
		known = true
		if p := nw.Pools[i]; p.Gateway == addr || slices.Contains(p.Reserved, addr) || d.deleted.has(nw.ID, addr, d.docker) {
			return false
		}
		if d.hasLivingEndpoint(nw.ID, addr) {
			return false
		}
	}
	return known
}

// hasLivingEndpoint reports whether a living endpoint has the address, or one of which that can't be found out.
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

// deletedEndpoints are the endpoints that Docker has just had deleted. It releases their addresses next.
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
