// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"slices"
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
	ensureDevice   action = "ensure VXLAN device"
)

// step is one thing to do. Which of the fields are set follows from the action.
type step struct {
	action   action
	network  Network   // of all but removeEndpoint and removeLink
	endpoint Endpoint  // of removeEndpoint and ensureHostEnd
	link     *hostLink // of removeLink and ensureHostEnd, and of ensureBridge and ensureDevice if it is there
	flaws    []flaw    // of ensureBridge, ensureHostEnd and ensureDevice: what is wrong
	held     []string  // properties that are to be left as they are: see contests
}

// leavesOut reports whether the step is to leave a property as it is.
func (s step) leavesOut(property string) bool { return slices.Contains(s.held, property) }

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
	case ensureDevice:
		return "VXLAN device " + deviceName(s.network.ID)
	default:
		return "bridge " + s.network.Bridge
	}
}

// wrong tells what is wrong that the step puts right.
func (s step) wrong() error {
	if s.action == giveUpBridge {
		return errors.New("somebody else has made it again")
	}
	isLeftOut := func(f flaw) bool { return s.leavesOut(f.property) }
	return errors.New(texts(slices.DeleteFunc(slices.Clone(s.flaws), isLeftOut)))
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
	links     map[string]*hostLink      // the host's, by name
	thorough  bool                      // all links are there, with all that is known of them
	tags      func(Network) error       // why a network's frames are not to be tagged, whatever its bridge's ports
	made      func(name string) int     // index that weave's link of that name had, 0 if that is not known
	alive     func(sandbox string) bool // reports whether a sandbox is there
	tunnel    Tunnel
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
	return w.find(wantedHostEnd(w.stateID, Network{}, ep)) != nil || ep.Sandbox != "" && w.alive(ep.Sandbox)
}

// find returns the link that is to be as wanted: the one of that name or, if there is none, the one that has the alias
// and that somebody has renamed.
func (w world) find(want wanted) *hostLink {
	if link := w.links[want.name]; link != nil {
		return link
	}
	text := want.alias.String()
	for _, link := range w.links {
		if link.Attrs().Alias == text && link.Type() == want.kind {
			return link
		}
	}
	return nil
}

// inOrder reports whether nothing is wrong with a network and these endpoints of it.
func (w world) inOrder(nw Network, endpoints []Endpoint) bool {
	var p plan
	w.planNetwork(&p, nw, endpoints)
	return len(p.steps)+len(p.problems) == 0 && p.networks[0].Tagged == nw.Tagged
}

// planNetwork plans for a network that is kept, with its endpoints that are. It looks at nothing else, so it can be
// used at any time, under the network's lock.
func (w world) planNetwork(p *plan, nw Network, endpoints []Endpoint) {
	if !nw.Foreign && w.becameForeign(nw) {
		nw.Foreign = true
		p.steps = append(p.steps, step{action: giveUpBridge, network: nw})
	}
	bridge := w.find(wantedBridge(w.stateID, nw))
	nw.Tagged = w.tagged(nw, bridge)
	p.networks = append(p.networks, nw)
	w.planBridge(p, nw, bridge)
	w.planDevice(p, nw, bridge)
	for _, ep := range endpoints {
		p.endpoints = append(p.endpoints, ep)
		w.planHostEnd(p, nw, ep, bridge)
	}
}

// tagged reports whether the frames of a network are to be tagged. On a bridge with a port that is not weave's they are
// not, since the tags would leave the host there.
func (w world) tagged(nw Network, bridge *hostLink) bool {
	if !w.thorough {
		return nw.Tagged
	}
	return w.tags(nw) == nil && (bridge == nil || bridge.portMTU == 0)
}

// becameForeign reports whether a bridge that the user has named, and weave has made, now belongs to somebody else:
// after a reboot the host's own configuration may make it before weave does. A bridge of weave's own never has that
// name without its alias, unless somebody has taken the alias from it.
func (w world) becameForeign(nw Network) bool {
	link := w.links[nw.Bridge]
	return link != nil && nw.Bridge != nw.bridgeName() && link.Attrs().Alias == "" &&
		link.Attrs().Index != w.made(nw.Bridge)
}

func (w world) planBridge(p *plan, nw Network, bridge *hostLink) {
	switch {
	case nw.Foreign && isBridge(bridge): // somebody else's, who may do with it as he likes
		if nw.hasGateway() {
			p.problems = append(p.problems, problem{"network " + string(nw.ID), fmt.Errorf(
				"somebody else has made bridge %s, and weave puts no gateway on it: remove the bridge "+
					"(ip link del %[1]s) and restart weave, or make the network again with another bridge", nw.Bridge)})
		}
	case nw.Foreign:
		p.problems = append(p.problems, problem{"network " + string(nw.ID), errForeignBridgeGone(nw.Bridge)})
	case bridge == nil:
		p.steps = append(p.steps, step{action: ensureBridge, network: nw, flaws: []flaw{missing}})
	default:
		w.planLink(p, wantedBridge(w.stateID, nw), step{action: ensureBridge, network: nw, link: bridge})
	}
}

// missing is the flaw of a bridge that is not there.
var missing = flaw{"existence", "missing"}

// planHostEnd plans for an endpoint's host end. One that is missing can't be made again, since the container end is
// gone with it.
func (w world) planHostEnd(p *plan, nw Network, ep Endpoint, bridge *hostLink) {
	want := wantedHostEnd(w.stateID, nw, ep)
	if isBridge(bridge) {
		want.bridge = bridge
	}
	link := w.find(want)
	switch {
	case !w.isPresent(ep): // its container has ended, too: Docker deletes it or has forgotten it
	case link == nil:
		p.problems = append(p.problems, problem{"endpoint " + string(ep.ID), fmt.Errorf(
			"host end %s is gone: disconnect the container from network %s and connect it again", ep.HostEnd, nw.ID)})
	case nw.Foreign && want.bridge == nil: // that is a problem already
	default:
		w.planLink(p, want, step{action: ensureHostEnd, network: nw, endpoint: ep, link: link})
	}
}

// planLink plans for a link that is there: the step is to make it as wanted.
func (w world) planLink(p *plan, want wanted, s step) {
	if err := checkOurs(s.link, want.kind, want.alias, w.made(want.name)); err != nil {
		p.problems = append(p.problems, problem{s.subject(), err})
		return
	}
	if s.flaws = want.flaws(s.link); len(s.flaws) > 0 {
		p.steps = append(p.steps, s)
	}
}
