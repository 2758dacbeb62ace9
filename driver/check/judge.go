// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// Result is the verdict.
type Result struct {
	Failed api.CheckLayer // the first layer that fails; empty: none does
	Layers []api.Checked  // in the order of the way
}

// lossy are the layers that fail when packets get lost, for which the kernel has a reason.
var lossy = []api.CheckLayer{
	api.LayerNeighbour, api.LayerBridge, api.LayerFirewall, api.LayerBack, api.LayerConnection, api.LayerSize,
}

// judge names the first layer that fails. It is a pure function of the facts.
func judge(f facts) Result {
	var r Result
	for _, l := range []struct {
		layer api.CheckLayer
		look  func(facts) api.Checked
	}{
		{api.LayerName, ofName},
		{api.LayerFrom, func(f facts) api.Checked { return ofEnd(f.From, f.from) }},
		{api.LayerRoute, ofRoute},
		{api.LayerTo, ofTo},
		{api.LayerNeighbour, ofNeighbour},
		{api.LayerBridge, ofBridge},
		{api.LayerFirewall, ofFirewall},
		{api.LayerListener, ofListener},
		{api.LayerBack, ofBack},
		{api.LayerConnection, ofConnection},
		{api.LayerSize, ofSize},
	} {
		c := l.look(f)
		c.Layer = l.layer
		if c.Result == api.CheckFailed && r.Failed == "" {
			r.Failed = l.layer
			if slices.Contains(lossy, l.layer) {
				c.Evidence += f.whyDropped()
			}
		}
		r.Layers = append(r.Layers, c)
	}
	return r
}

func ok(format string, args ...any) api.Checked {
	return api.Checked{Result: api.CheckOK, Evidence: fmt.Sprintf(format, args...)}
}

func unknown(format string, args ...any) api.Checked {
	return api.Checked{Result: api.CheckUnknown, Evidence: fmt.Sprintf(format, args...)}
}

func failed(advice, format string, args ...any) api.Checked {
	return api.Checked{Result: api.CheckFailed, Evidence: fmt.Sprintf(format, args...), Advice: advice}
}

// answered reports whether the probe that was asked for has had an answer: then the way there and back is there.
func (f facts) answered() bool {
	switch {
	case f.probes == nil:
		return false
	case f.Port == 0:
		return f.probes.Small == nil
	}
	return f.probes.TCP == nil || refused(f.probes.TCP) && !f.rejected()
}

// rejected reports whether somebody on the way has refused the connection in the receiver's place.
func (f facts) rejected() bool {
	on, _ := f.probes.trails[kindConnect].lost()
	return on == senderLink || on == inHost || on == beyond || on == receiverLink
}

func refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// lost returns where the probe that was asked for, or with back its answer, got lost.
func (f facts) lost() (on stretch, back bool) {
	switch {
	case f.probes == nil || f.answered():
		return unseen, false
	case f.Port > 0:
		return f.probes.trails[kindConnect].lost()
	}
	return f.probes.trails[kindSmall].lost()
}

// ofName judges what the sender's resolver says of the receiver's name. Addresses outside of the network may be the
// receiver's on a network that is not weave's.
func ofName(f facts) api.Checked {
	var own, foreign []netip.Addr
	for _, a := range f.resolved.addresses {
		inside := func(p driver.Pool) bool { return p.Subnet.Contains(a) }
		switch {
		case slices.Contains(f.Own, a):
			own = append(own, a)
		case slices.ContainsFunc(f.From.Network.Pools, inside):
			foreign = append(foreign, a)
		}
	}
	switch {
	case f.Name == "":
		return unknown("no name was asked for")
	case f.probes == nil:
		return unknown("nothing could be asked: %v", f.unprobed)
	case errors.Is(f.resolved.err, errNoName):
		return failed("Docker knows a container by its name and its aliases, on networks that both are on: "+
			"see docker network inspect, and --network-alias",
			"%s finds no address of the name %s", f.From.Name, f.Name)
	case f.resolved.err != nil:
		return failed("Docker's resolver in the container does not work, or its rules there (iptables -t nat) are "+
			"gone: restart the container",
			"%s can't ask %s for the name %s: %v", f.From.Name, resolver, f.Name, f.resolved.err)
	case len(foreign) > 0:
		return failed("another container has that name or alias: look for the address with weave ps",
			"%s finds %s at %s, which %s has not", f.From.Name, f.Name, foreign[0], f.Name)
	case len(own) == 0:
		return unknown("%s is %s for %s, on a network that is not weave's",
			f.Name, f.resolved.addresses[0], f.From.Name)
	}
	return ok("%s is %s for %s", f.Name, own[0], f.From.Name)
}

// ofEnd judges the ends of a veth pair: whether they are as they should be.
func ofEnd(e End, x inspect.Examination) api.Checked {
	if e.Endpoint.Sandbox == "" {
		return failed("start the container", "%s does not run", e.Name)
	}
	for _, d := range inspect.Drift(e.Network, e.Endpoint, x.Observation) {
		if d.Kind != api.AddressUnexpected && d.Kind != api.MACChanged {
			return failed(inspect.Advice(d.Kind), "%s: %s", e.Name, d.Text)
		}
	}
	return ok("%s has its address and its link, on %s", e.Name, e.Network.Bridge)
}

func ofTo(f facts) api.Checked {
	switch {
	case f.To != nil:
		return ofEnd(*f.To, f.to)
	case f.Host != "":
		return unknown("%s is on host %s: what is wrong there a weave check on that host finds", f.Address, f.Host)
	}
	return unknown("%s is of nobody that weave knows on this host", f.Address)
}

// side is one of the ends, as it sees the other one.
type side struct {
	End
	x     inspect.Examination
	other *End // nil: it is not known
	to    netip.Addr
}

// there is the sender, which sends to the address.
func (f facts) there() side { return side{f.From, f.from, f.To, f.Address} }

// back is the receiver, which sends to the sender's address. It is for questions that have a receiver.
func (f facts) back() side { return side{*f.To, f.to, &f.From, f.source()} }

func ofRoute(f facts) api.Checked { return f.there().route() }

// route judges where a sandbox sends packets for the other end.
func (s side) route() api.Checked {
	if s.x.Sandbox == nil || s.x.Inside == nil {
		return unknown("the routes of %s are not known", s.Name)
	}
	route, found := routeTo(s.x.Sandbox.Routes, s.to)
	link := nameOfLink(s.x.Sandbox.Links, route.Link)
	switch {
	case !found && s.other == nil && s.Network.Internal:
		return failed("the network is internal: it has no way out. Connect the container to another one, too",
			"%s has no route to %s", s.Name, s.to)
	case !found:
		return failed("a program in the container has removed the route: restart the container",
			"%s has no route to %s", s.Name, s.to)
	case s.other == nil:
		return ok("%s leaves by %s", s.to, link)
	case route.Link != s.x.Inside.Index:
		return failed("see ip route in the container: another network, or a program, has a route to that address",
			"%s sends to %s out of %s, not of %s", s.Name, s.to, link, s.x.Inside.Name)
	case route.Gateway.IsValid():
		return failed("the container's own address or prefix has been changed: restart the container",
			"%s sends to %s by the gateway %s, though both are on one network", s.Name, s.to, route.Gateway)
	}
	return ok("%s sends to %s out of %s", s.Name, s.to, link)
}

// routeTo returns the route with the longest prefix, and of these the one with the lowest metric.
func routeTo(routes []netstate.Route, to netip.Addr) (best netstate.Route, found bool) {
	for _, r := range routes {
		if !r.Destination.Contains(to) {
			continue
		}
		better := r.Destination.Bits() > best.Destination.Bits() ||
			r.Destination.Bits() == best.Destination.Bits() && r.Metric < best.Metric
		if !found || better {
			best, found = r, true
		}
	}
	return best, found
}

func nameOfLink(links []netstate.Link, index int) string {
	for _, l := range links {
		if l.Index == index {
			return l.Name
		}
	}
	return fmt.Sprintf("link %d", index)
}

func ofNeighbour(f facts) api.Checked { return f.there().neighbour() }

// neighbour judges whether the other end's address was answered for, and by whom.
func (s side) neighbour() api.Checked {
	if s.x.Sandbox == nil {
		return unknown("the neighbours of %s are not known", s.Name)
	}
	i := slices.IndexFunc(s.x.Sandbox.Neighbours, func(n netstate.Neighbour) bool { return n.Address == s.to })
	if i < 0 {
		return unknown("%s has not asked for %s", s.Name, s.to)
	}
	switch found := s.x.Sandbox.Neighbours[i].MAC; {
	case found.IsZero():
		return failed("look where the question gets lost: weave capture "+s.Name+" --filter arp",
			"%s asks who has %s, and nobody answers", s.Name, s.to)
	case s.other != nil && found != s.other.Endpoint.MAC:
		return failed("somebody else has the address, or has had it: "+
			"look for its MAC with weave ps, and for the host's with ip neighbour",
			"%s is at %s for %s, but %s has %s", s.to, found, s.Name, s.other.Name, s.other.Endpoint.MAC)
	default:
		return ok("%s is at %s", s.to, found)
	}
}

// ofBack judges the way of the answers: what the receiver knows of the sender.
func ofBack(f facts) api.Checked {
	switch {
	case f.answered():
		return ok("answers come back")
	case f.To == nil:
		return unknown("what answers take is not known here")
	}
	back := f.back()
	if c := back.route(); c.Result == api.CheckFailed {
		return c
	}
	return back.neighbour()
}
