// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"maps"
	"slices"
)

// claimed returns the names of the links that records name, also those that somebody has given them since. A bridge
// that the user has named is made under weave's own name for it; until it is renamed, that name is claimed, too.
func (w world) claimed() map[string]bool {
	renamed := map[string]string{} // by alias
	for name, link := range w.links {
		if a := link.Attrs().Alias; a != "" && !isOwnName(name) {
			renamed[a] = name
		}
	}
	names := map[string]bool{}
	for _, nw := range w.networks {
		names[nw.Bridge] = true
		names[renamed[networkAlias(w.stateID, nw.ID).String()]] = true
		if w.links[nw.Bridge] == nil {
			names[nw.bridgeName()] = true
		}
		if nw.VNI != 0 {
			names[deviceName(nw.ID)] = true
		}
	}
	for _, r := range w.endpoints {
		names[r.HostEnd] = true
		names[renamed[endpointAlias(w.stateID, r.ID).String()]] = true
	}
	return names
}

// planUnclaimed plans for links that carry this state's alias though no record names them. Host ends and VXLAN devices
// are removed first, so that no bridge is removed while it has ports. What a container uses stays, as a problem: a host
// end that has a carrier or whose other end is in another namespace, and a bridge that has ports which no step removes.
// Their records were lost, or an adoption failed.
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
	for _, link := range w.unclaimed("vxlan", claimed) {
		removed[link.Attrs().Name] = true
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
func (w world) unclaimed(kind string, claimed map[string]bool) []*hostLink {
	var out []*hostLink
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
func (w world) hasPort(bridge *hostLink, removed map[string]bool) bool {
	for name, link := range w.links {
		if link.Attrs().MasterIndex == bridge.Attrs().Index && !removed[name] {
			return true
		}
	}
	return false
}

// inUse is the problem of a link that containers use though no record names it.
func inUse(link *hostLink, kind string) problem {
	return problem{"link " + link.Attrs().Name, fmt.Errorf(
		"a container uses it, and its record is gone: it is left alone, and taken over if Docker knows its %s", kind)}
}
