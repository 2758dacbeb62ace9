// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
)

// plan is what has to be done so that the kernel has what the records say. Making a plan changes nothing, and applying
// it does not change the plan.
type plan struct {
	networks  []Network  // those that are kept
	endpoints []Endpoint // likewise
	left      leftAlone  // what containers use though the records don't have its network
	steps     []step     // in the order in which they are to be done
	problems  []problem  // what no step can put right
}

// action is what a step does.
type action string

const (
	removeEndpoint action = "remove endpoint" // its record names what a crash left half made or half removed
	removeNetwork  action = "remove network"  // likewise
	removeLink     action = "remove link"     // it carries this state's alias, and no record names it
	keepNetwork    action = "keep network"    // a container is on it, so it is made, whatever its record says
	giveUpBridge   action = "give up bridge"  // somebody else has made one of that name: it is foreign from now on
	ensureBridge   action = "ensure bridge"   // it is missing, or not as weave makes it
	ensureHostEnd  action = "ensure host end" // it is not as weave makes it
)

// step is one thing to do. Which of the fields are set follows from the action.
type step struct {
	action   action
	network  Network      // of all but removeEndpoint and removeLink
	endpoint Endpoint     // of removeEndpoint and ensureHostEnd
	link     netlink.Link // of removeLink and ensureHostEnd
}

// subject names what the step is about.
func (s step) subject() string {
	switch s.action {
	case removeEndpoint:
		return "endpoint " + string(s.endpoint.ID)
	case removeNetwork, keepNetwork:
		return "network " + string(s.network.ID)
	case removeLink:
		return "link " + s.link.Attrs().Name
	case ensureHostEnd:
		return "host end " + s.endpoint.HostEnd
	default:
		return "bridge " + s.network.Bridge
	}
}

// problem is something that is wrong, and what a user can do about it.
type problem struct {
	subject string // "endpoint 3345ac49..."
	err     error
}

func (p problem) String() string { return p.subject + ": " + p.err.Error() }

// world is what a plan is made from.
type world struct {
	stateID   string
	networks  []Network
	endpoints []endpointRecord
	links     map[string]netlink.Link   // the host's, by name
	alive     func(sandbox string) bool // reports whether a sandbox is there
}

// plan returns what has to be done at a start, when nothing else changes what it looks at.
func (w world) plan() plan {
	p := plan{left: newLeftAlone()}
	living := w.livingNetworks()
	recorded, kept := map[NetworkID]bool{}, map[NetworkID]bool{}
	var networks []step // about whole networks
	for _, nw := range w.networks {
		recorded[nw.ID] = true
		switch {
		case nw.Phase == Made:
			kept[nw.ID] = true
		case living[nw.ID]:
			kept[nw.ID] = true
			nw.Phase = Made
			networks = append(networks, step{action: keepNetwork, network: nw})
		default:
			networks = append(networks, step{action: removeNetwork, network: nw})
		}
	}
	endpoints := map[NetworkID][]Endpoint{}
	for _, r := range w.endpoints {
		switch {
		case r.Phase == Made && kept[r.Network] && w.isPresent(r.Endpoint):
			endpoints[r.Network] = append(endpoints[r.Network], r.Endpoint)
		case !recorded[r.Network] && w.lives(r):
			w.planLeft(&p, r.Endpoint)
		default:
			p.steps = append(p.steps, step{action: removeEndpoint, endpoint: r.Endpoint})
		}
	}
	w.planUnclaimed(&p, w.claimed())
	p.steps = append(p.steps, networks...)
	for _, nw := range w.networks {
		if kept[nw.ID] {
			nw.Phase = Made
			w.planNetwork(&p, nw, endpoints[nw.ID])
		}
	}
	return p
}

// isPresent reports whether more of an endpoint is left than its record. After a reboot its pair and its sandbox are
// gone, and Docker makes new endpoints. If somebody has deleted the pair of a running container, the sandbox is still
// there: the endpoint is kept, so that listings show what it lacks.
func (w world) isPresent(ep Endpoint) bool {
	return w.links[ep.HostEnd] != nil || ep.Sandbox != "" && w.alive(ep.Sandbox)
}

// claimed returns the names of the links that records name. A bridge that the user has named is made under weave's own
// name for it; until it is renamed, that name is claimed, too.
func (w world) claimed() map[string]bool {
	names := map[string]bool{}
	for _, nw := range w.networks {
		names[nw.Bridge] = true
		if w.links[nw.Bridge] == nil {
			names[bridgeName(nw.ID)] = true
		}
	}
	for _, r := range w.endpoints {
		names[r.HostEnd] = true
	}
	return names
}

// planUnclaimed plans for links that carry this state's alias though no record names them. Host ends are removed first,
// so that no bridge is removed while it has ports. What a container uses stays, as a problem: a host end that has a
// carrier or whose other end is in another namespace, and a bridge that has ports which no step removes. Their records
// were lost, or an adoption failed.
func (w world) planUnclaimed(p *plan, claimed map[string]bool) {
	removed := map[string]bool{} // names of links that steps remove
	for _, s := range p.steps {
		if s.action == removeEndpoint {
			removed[s.endpoint.HostEnd] = true
		}
	}
	for _, link := range w.unclaimed("veth", claimed) {
		name := link.Attrs().Name
		if hasCarrier(link) || isPeerElsewhere(link) {
			p.problems = append(p.problems, inUse(link, "endpoint"))
			continue
		}
		removed[name] = true
		p.steps = append(p.steps, step{action: removeLink, link: link})
	}
	for _, link := range w.unclaimed("bridge", claimed) {
		if w.hasPort(link, removed) {
			p.problems = append(p.problems, inUse(link, "network"))
			a, _ := parseAlias(link.Attrs().Alias)
			p.left.addBridge(link.Attrs().Name, NetworkID(a.ID))
			continue
		}
		p.steps = append(p.steps, step{action: removeLink, link: link})
	}
}

// unclaimed returns the links of a kind that carry this state's alias and have no claimed name, in the order of names.
func (w world) unclaimed(kind string, claimed map[string]bool) []netlink.Link {
	var out []netlink.Link
	for _, name := range slices.Sorted(maps.Keys(w.links)) {
		link := w.links[name]
		a, ok := parseAlias(link.Attrs().Alias)
		if ok && a.State == w.stateID && link.Type() == kind && !claimed[name] {
			out = append(out, link)
		}
	}
	return out
}

// hasPort reports whether a bridge has a port that is not among the removed links.
func (w world) hasPort(bridge netlink.Link, removed map[string]bool) bool {
	for name, link := range w.links {
		if link.Attrs().MasterIndex == bridge.Attrs().Index && !removed[name] {
			return true
		}
	}
	return false
}

// inUse is the problem of a link that containers use though no record names it.
func inUse(link netlink.Link, kind string) problem {
	return problem{"link " + link.Attrs().Name, fmt.Errorf(
		"a container uses it, and its record is gone: it is left alone, and taken over if Docker knows its %s", kind)}
}

// planNetwork plans for a network that is kept, with its endpoints that are. It looks at nothing else, so it can be
// used at any time, under the network's lock.
func (w world) planNetwork(p *plan, nw Network, endpoints []Endpoint) {
	if !nw.Foreign && w.becameForeign(nw) {
		nw.Foreign = true
		p.steps = append(p.steps, step{action: giveUpBridge, network: nw})
	}
	p.networks = append(p.networks, nw)
	w.planBridge(p, nw)
	for _, ep := range endpoints {
		p.endpoints = append(p.endpoints, ep)
		w.planHostEnd(p, nw, ep)
	}
}

// becameForeign reports whether a bridge that the user has named, and weave has made, now belongs to somebody else:
// after a reboot the host's own configuration may make it before weave does. A bridge of weave's own never has that
// name without its alias.
func (w world) becameForeign(nw Network) bool {
	link := w.links[nw.Bridge]
	return link != nil && nw.Bridge != bridgeName(nw.ID) && link.Attrs().Alias == ""
}

func (w world) planBridge(p *plan, nw Network) {
	link := w.links[nw.Bridge]
	switch {
	case nw.Foreign && !isBridge(link):
		p.problems = append(p.problems, problem{"network " + string(nw.ID), errForeignBridgeGone(nw.Bridge)})
	case !nw.Foreign && (link == nil || !inOrder(link, networkAlias(w.stateID, nw.ID), nw.MTU, 0)):
		p.steps = append(p.steps, step{action: ensureBridge, network: nw})
	}
}

// isBridge reports whether a link is there and is a bridge.
func isBridge(link netlink.Link) bool { return link != nil && link.Type() == "bridge" }

// planHostEnd plans for an endpoint's host end. One that is missing can't be made again, since the container end is
// gone with it.
func (w world) planHostEnd(p *plan, nw Network, ep Endpoint) {
	link, bridge := w.links[ep.HostEnd], w.links[nw.Bridge]
	want := endpointAlias(w.stateID, ep.ID)
	subject := "endpoint " + string(ep.ID)
	switch {
	case !w.isPresent(ep): // its container has ended, too: Docker deletes it or has forgotten it
		return
	case link == nil:
		p.problems = append(p.problems, problem{subject, fmt.Errorf(
			"host end %s is gone: disconnect the container from network %s and connect it again", ep.HostEnd, nw.ID)})
		return
	case nw.Foreign && !isBridge(bridge): // that is a problem already
		return
	case bridge != nil && inOrder(link, want, bridge.Attrs().MTU, bridge.Attrs().Index):
		return
	}
	if err := checkOurs(link, "veth", want); err != nil {
		p.problems = append(p.problems, problem{subject, err})
		return
	}
	p.steps = append(p.steps, step{action: ensureHostEnd, network: nw, endpoint: ep, link: link})
}

// inOrder reports whether a link is as weave makes it: a host end if master is its bridge's index, a bridge if it is 0.
// The MTU of a host end is not compared: it is the network's, while the bridge may have a lower one because of a port
// that somebody else has added. Nor is the master of a bridge: somebody may have put it into a VRF, which weave leaves.
func inOrder(link netlink.Link, alias alias, mtu, master int) bool {
	a := link.Attrs()
	if a.Alias != alias.String() || a.Flags&net.FlagUp == 0 {
		return false
	}
	if master == 0 {
		return a.MTU == mtu
	}
	return a.MasterIndex == master
}
