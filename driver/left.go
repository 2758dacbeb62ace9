// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
)

// An older copy of the state that was put back, from a backup or with the whole disk, lacks networks that were made
// since, and may have one as half made or half removed, while containers run on it. What a container uses is then not
// removed. It is left alone, and taken up when Docker's API tells of it (Adopt).

// leftAlone is what is left alone: endpoints, and bridges, whose frames have to pass the firewall. The zero value is
// that of a plan which leaves nothing alone.
type leftAlone struct {
	endpoints map[EndpointID]Endpoint
	bridges   map[string]NetworkID // by name
}

func newLeftAlone() leftAlone {
	return leftAlone{map[EndpointID]Endpoint{}, map[string]NetworkID{}}
}

func (l *leftAlone) addBridge(name string, nw NetworkID) {
	if l.bridges != nil {
		l.bridges[name] = nw
	}
}

// lives reports whether a record is of an endpoint that a container has, with its pair.
func (w world) lives(r endpointRecord) bool {
	link := w.links[r.HostEnd]
	return r.Phase == Made && r.Sandbox != "" && link != nil && (hasCarrier(link) || w.alive(r.Sandbox))
}

// livingNetworks returns the networks that a container is on.
func (w world) livingNetworks() map[NetworkID]bool {
	living := map[NetworkID]bool{}
	for _, r := range w.endpoints {
		if w.lives(r) {
			living[r.Network] = true
		}
	}
	return living
}

// planLeft leaves an endpoint alone whose network has no record.
func (w world) planLeft(p *plan, ep Endpoint) {
	p.left.endpoints[ep.ID] = ep
	for name, link := range w.links {
		if master := w.links[ep.HostEnd].Attrs().MasterIndex; master != 0 && link.Attrs().Index == master {
			p.left.addBridge(name, ep.Network)
		}
	}
	p.problems = append(p.problems, leftProblem(ep))
}

func leftProblem(ep Endpoint) problem {
	return problem{"endpoint " + string(ep.ID), fmt.Errorf("a container uses it, and the record of its network %s is "+
		"gone: it is left alone, and taken up when Docker's API tells of the network", ep.Network)}
}

// isPeerElsewhere reports whether the other end of a veth pair is in another namespace. It goes when that goes.
func isPeerElsewhere(link netlink.Link) bool { return link.Attrs().NetNsID >= 0 }

// leftovers is what the start has left alone and Docker's API has not told of yet.
type leftovers struct {
	mu   sync.Mutex
	what leftAlone
}

func (l *leftovers) load(what leftAlone) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.what = what
}

// endpoint returns the endpoint of this id, if it is on the network.
func (l *leftovers) endpoint(nw NetworkID, id EndpointID) (Endpoint, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ep, ok := l.what.endpoints[id]
	return ep, ok && ep.Network == nw
}

func (l *leftovers) endpoints() []Endpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.what.endpoints))
}

// bridges returns the networks of the bridges, by name.
func (l *leftovers) bridges() map[string]NetworkID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.what.bridges)
}

// dropEndpoint says that the endpoint is tracked, or gone.
func (l *leftovers) dropEndpoint(id EndpointID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.what.endpoints, id)
}

// dropNetwork says that the network is tracked.
func (l *leftovers) dropNetwork(id NetworkID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.what.bridges, func(_ string, nw NetworkID) bool { return nw == id })
}

// leftProblems returns a problem for each endpoint that is still left alone.
func (d *Driver) leftProblems(links map[string]*hostLink) []problem {
	var out []problem
	for _, ep := range d.left.endpoints() {
		if links[ep.HostEnd] != nil {
			out = append(out, leftProblem(ep))
		}
	}
	return out
}

// AddressesInUse returns the addresses of an address space that endpoints have, with the lengths of their subnets. An
// older copy of the state does not have those that were handed out since. An endpoint whose network is not tracked may
// be of any space. Of one that has no record here, such as one that another state has made, the kernel tells the
// addresses.
func (d *Driver) AddressesInUse(ctx context.Context, space string) []netip.Prefix {
	var out []netip.Prefix
	for _, ep := range d.tracked.Endpoints() {
		nw, _ := d.tracked.network(ep.Network)
		for _, a := range ep.Addresses {
			ofSpace := func(p Pool) bool { return p.Space == space && p.Subnet.Contains(a.Addr()) }
			if slices.ContainsFunc(nw.Pools, ofSpace) {
				out = append(out, a)
			}
		}
	}
	for _, ep := range d.left.endpoints() {
		out = append(out, ep.Addresses...)
	}
	return append(out, d.unrecordedAddresses(ctx)...)
}

// unrecordedAddresses returns the addresses of container ends whose host ends weave has made, and which have no record
// here.
func (d *Driver) unrecordedAddresses(ctx context.Context) []netip.Prefix {
	links, err := listLinks(ctx)
	if err != nil {
		d.log.WithError(err).Warn("the addresses of endpoints without a record are not known")
		return nil
	}
	left := map[EndpointID]bool{}
	for _, ep := range d.left.endpoints() {
		left[ep.ID] = true
	}
	var out []netip.Prefix
	for _, link := range links {
		a, ok := parseAlias(link.Attrs().Alias)
		if !ok || a.Kind != forEndpoint || !isPeerElsewhere(link) || d.kernel == nil {
			continue
		}
		id := EndpointID(a.ID)
		if _, tracked := d.tracked.endpoint(id); tracked || left[id] {
			continue
		}
		inside, err := d.kernel.ListID(ctx, link.Attrs().NetNsID)
		if err != nil {
			log := d.log.WithError(err).WithField("link", link.Attrs().Name)
			log.Warn("the addresses of its container are not known")
			continue
		}
		for _, l := range inside.Links {
			if isPeer(l, link) {
				out = append(out, l.Addresses...)
			}
		}
	}
	return out
}
