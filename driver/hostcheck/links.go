// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"net/netip"
	"slices"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
)

// near is what part of a limit, in percent, is told of before it is reached.
const near = 80

// isNear reports whether n is near a limit.
func isNear(n, limit int) bool { return n*100 >= limit*near }

// ofPorts judges how many ports bridges have left.
func ofPorts(f facts) (found []api.HostFinding) {
	if f.portsErr != nil {
		return []api.HostFinding{unknown("the ports of bridges can't be counted: %v", f.portsErr)}
	}
	most, where := 0, "no bridge"
	for _, nw := range f.networks {
		n := f.ports[nw.Bridge]
		if n >= most {
			most, where = n, nw.Bridge
		}
		switch {
		case n >= driver.MaxPorts:
			found = append(found, failed("use a second network", "bridge %s has %d of %d ports, and takes no "+
				"container more", nw.Bridge, n, driver.MaxPorts))
		case isNear(n, driver.MaxPorts):
			found = append(found, warning("use a second network for what is to come", "bridge %s has %d of %d ports",
				nw.Bridge, n, driver.MaxPorts))
		}
	}
	return each(found, "at most %d of %d, %s", most, driver.MaxPorts, where)
}

// joining is how long Docker may take from Join until a container end is up.
const joining = time.Minute

// ofEndpoints judges whether endpoints are as they should be.
func ofEndpoints(f facts) (found []api.HostFinding) {
	for _, e := range f.endpoints {
		for _, d := range e.drift {
			result := failed
			if slices.Contains([]api.DriftKind{
				api.MACChanged, api.AddressUnexpected, api.SandboxUnreadable, api.NotObserved,
			}, d.Kind) {
				result = warning
			}
			found = append(found, result(inspect.Advice(d.Kind), "%s: %s", e.title(), d.Text))
		}
		if len(e.drift) == 0 && e.State() == driver.Joined && f.now.Sub(e.Created) > joining {
			found = append(found,
				failed("restart the container", "%s: host end %s has no carrier", e.title(), e.HostEnd))
		}
	}
	return each(found, "%d, all as they should be", len(f.endpoints))
}

// title returns what people call an endpoint.
func (e endpoint) title() string {
	if e.name != "" {
		return e.name
	}
	return "endpoint " + string(e.ID[:min(len(e.ID), 12)])
}

// ofAddresses judges whether somebody else has answered for an address.
func ofAddresses(f facts) (found []api.HostFinding) {
	total, sum := 0, 0
	for _, a := range f.asked {
		total, sum = total+a.total, sum+a.asked
		if a.err != nil {
			found = append(found, unknown("nobody could be asked on network %.12s: %v", a.network.ID, a.err))
		}
		for _, x := range a.others {
			found = append(found, failed("give one of them another address: weave ps has the MACs of containers, ip "+
				"neighbour those that the host knows", "%s of %s is also at %s, %s", x.address, x.owner, x.mac, x.who))
		}
	}
	if sum < total {
		found = append(found, unknown("of %d addresses %d were asked for", total, sum))
	}
	return each(found, "%d were asked for, and nobody else answers", sum)
}

// route is one of the host's, to some destination.
type route struct {
	destination netip.Prefix
	link        string
}

// ofSubnets judges whether the host has routes elsewhere into the networks' subnets.
func ofSubnets(f facts) (found []api.HostFinding) {
	if f.routesErr != nil {
		return []api.HostFinding{unknown("the host's routes can't be read: %v", f.routesErr)}
	}
	for _, nw := range f.networks {
		for _, p := range nw.Pools {
			found = append(found, f.intruders(nw, p.Subnet)...)
		}
	}
	return each(found, "the host has no route into them elsewhere")
}

// intruders returns a finding for each link out of which the host has a route into a subnet of a network.
func (f facts) intruders(nw driver.Network, subnet netip.Prefix) (found []api.HostFinding) {
	const advice = "make the network again with another subnet, or remove the route"
	if subnet.Bits() == 0 {
		return nil // Docker's null pool: the network has no addresses that Docker knows
	}
	seen := map[string]bool{nw.Bridge: true}
	for _, r := range f.routes {
		if r.destination.Bits() == 0 || seen[r.link] || !r.destination.Overlaps(subnet) {
			continue
		}
		seen[r.link] = true
		if len(nw.OwnGateways()) > 0 && r.destination.Bits() >= subnet.Bits() {
			found = append(found, failed(advice, "subnet %s of network %.12s: the host sends to %s out of %s, so "+
				"answers don't reach the containers there", subnet, nw.ID, r.destination, r.link))
			continue
		}
		found = append(found, warning(advice, "subnet %s of network %.12s overlaps %s, which the host has a route to "+
			"out of %s: containers don't reach what is there", subnet, nw.ID, r.destination, r.link))
	}
	return found
}
