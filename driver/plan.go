package driver

import (
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// plan is what Reconcile has to do: what the store says against what the kernel has.
type plan struct {
	networks      []Network      // to keep: each needs its bridge
	endpoints     []Endpoint     // to keep, with their host ends as they are in links; some may have none
	dropEndpoints []Endpoint     // half made or half removed, or with no veth pair and no sandbox left
	dropNetworks  []Network      // half made or half removed
	strays        []netlink.Link // of this state, but nothing claims them
	unknown       []netlink.Link // likewise, but a container uses them: their records were lost
}

// makePlan has no side effects. alive tells whether a sandbox is still there.
func makePlan(stateID string, networks []networkRecord, endpoints []endpointRecord, links []netlink.Link, alive func(sandbox string) bool) plan {
	var p plan
	claimed := map[string]bool{}
	kept := map[NetworkID]bool{}
	for _, r := range networks {
		claimed[r.Bridge] = true
		if r.Phase != made {
			p.dropNetworks = append(p.dropNetworks, r.Network)
			continue
		}
		kept[r.ID] = true
		p.networks = append(p.networks, r.Network)
	}
	present := map[string]bool{}
	for _, link := range links {
		present[link.Attrs().Name] = true
	}
	for _, r := range endpoints {
		claimed[r.HostEnd] = true
		// After a reboot every pair is gone and so is every sandbox: Docker makes new endpoints. Where somebody deleted the
		// pair of a container that runs on, the endpoint stays, for the listing to tell.
		if r.Phase == made && kept[r.Network] && (present[r.HostEnd] || r.Sandbox != "" && alive(r.Sandbox)) {
			p.endpoints = append(p.endpoints, r.Endpoint)
		} else {
			p.dropEndpoints = append(p.dropEndpoints, r.Endpoint)
		}
	}
	for _, link := range links {
		switch a := link.Attrs(); {
		case claimed[a.Name] || !ownAlias(stateID, a.Alias):
		case link.Type() == "veth" && carrier(link):
			p.unknown = append(p.unknown, link)
		default:
			p.strays = append(p.strays, link)
		}
	}
	// Host ends before bridges, so that no bridge goes with ports.
	slices.SortStableFunc(p.strays, func(a, b netlink.Link) int { return -strings.Compare(a.Type(), b.Type()) })
	return p
}
