// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// Result is the verdict.
type Result struct {
	Failed api.CheckLayer // the first layer that fails; empty: none does
	Layers []api.Checked  // in the order of the way
}

// judge names the first layer that fails. It is a pure function of the facts.
func judge(f facts) Result {
	var r Result
	for _, l := range []struct {
		layer api.CheckLayer
		look  func(facts) api.Checked
	}{
		{api.LayerFrom, func(f facts) api.Checked { return ofEnd(f.From, f.from) }},
		{api.LayerRoute, ofRoute},
		{api.LayerTo, ofTo},
		{api.LayerNeighbour, ofNeighbour},
		{api.LayerFirewall, ofFirewall},
		{api.LayerListener, ofListener},
		{api.LayerConnection, ofConnection},
		{api.LayerSize, ofSize},
	} {
		c := l.look(f)
		c.Layer = l.layer
		if c.Result == api.CheckFailed && r.Failed == "" {
			r.Failed = l.layer
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
	if f.To == nil {
		return unknown("%s is of nobody that weave knows on this host", f.Address)
	}
	return ofEnd(*f.To, f.to)
}

// ofRoute judges where the sandbox sends packets for the address.
func ofRoute(f facts) api.Checked {
	if f.from.Sandbox == nil || f.from.Inside == nil {
		return unknown("the routes of %s are not known", f.From.Name)
	}
	route, found := routeTo(f.from.Sandbox.Routes, f.Address)
	link := nameOfLink(f.from.Sandbox.Links, route.Link)
	switch {
	case !found:
		return failed("a program in the container has removed the route: restart the container",
			"%s has no route to %s", f.From.Name, f.Address)
	case f.To == nil:
		return ok("%s leaves by %s", f.Address, link)
	case route.Link != f.from.Inside.Index:
		return failed("see ip route in the container: another network, or a program, has a route to that address",
			"%s sends to %s out of %s, not of %s", f.From.Name, f.Address, link, f.from.Inside.Name)
	case route.Gateway.IsValid():
		return failed("the container's own address or prefix has been changed: restart the container",
			"%s sends to %s by the gateway %s, though both are on one network", f.From.Name, f.Address, route.Gateway)
	}
	return ok("%s sends to %s out of %s", f.From.Name, f.Address, link)
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

// answered reports whether the probe that was asked for has had an answer: then the way there and back is there.
func (f facts) answered() bool {
	switch {
	case f.probes == nil:
		return false
	case f.Port == 0:
		return f.probes.Small == nil
	}
	return f.probes.TCP == nil || refused(f.probes.TCP)
}

func refused(err error) bool { return errors.Is(err, unix.ECONNREFUSED) }

// ofNeighbour judges whether the address was answered for, and by whom.
func ofNeighbour(f facts) api.Checked {
	if f.from.Sandbox == nil {
		return unknown("the neighbours of %s are not known", f.From.Name)
	}
	i := slices.IndexFunc(f.from.Sandbox.Neighbours, func(n netstate.Neighbour) bool { return n.Address == f.Address })
	switch {
	case i < 0:
		return unknown("%s has not asked for %s", f.From.Name, f.Address)
	case f.from.Sandbox.Neighbours[i].MAC.IsZero():
		return failed("look where the question gets lost: weave capture "+f.From.Name+" --filter arp",
			"%s asks who has %s, and nobody answers", f.From.Name, f.Address)
	case f.To != nil && f.from.Sandbox.Neighbours[i].MAC != f.To.Endpoint.MAC:
		return failed("somebody else has the address, or has had it: "+
			"look for its MAC with weave ps, and for the host's with ip neighbour",
			"%s is at %s for %s, but %s has %s", f.Address, f.from.Sandbox.Neighbours[i].MAC, f.From.Name, f.To.Name,
			f.To.Endpoint.MAC)
	}
	return ok("%s is at %s", f.Address, f.from.Sandbox.Neighbours[i].MAC)
}

// ofFirewall judges by the counters of the host's rules that drop.
func ofFirewall(f facts) api.Checked {
	switch {
	case f.answered():
		return ok("no rule of the host drops the packets")
	case f.probes == nil:
		return unknown("nothing was sent that a rule could drop")
	case f.rulesError != nil && len(f.dropped) == 0:
		return unknown("the host's rules can't be read: %v", f.rulesError)
	case len(f.dropped) == 0:
		return unknown("no rule of the host that counts has dropped a packet meanwhile")
	}
	var rules []string
	for _, r := range f.dropped {
		rules = append(rules, r.Table+": "+r.Text)
	}
	return failed("a rule of the host drops packets: remove it, or let the network's pass before it",
		"dropped packets while the probes were sent: %s", strings.Join(rules, "; "))
}

// ofListener judges whether somebody takes connections to the port.
func ofListener(f facts) api.Checked {
	if f.Port == 0 {
		return unknown("no port was named")
	}
	if f.probes != nil && f.probes.TCP == nil {
		return ok("port %d is open", f.Port)
	}
	if f.To == nil || f.to.Sandbox == nil || !f.to.Sandbox.HasSockets {
		return unknown("who listens at %s is not known", f.Address)
	}
	var elsewhere []string
	for _, s := range f.to.Sandbox.Sockets {
		if s.Protocol != "tcp" || s.Local.Port() != f.Port {
			continue
		}
		if local := s.Local.Addr(); local.IsUnspecified() || local.Unmap() == f.Address {
			if s.Queued > 0 && f.probes != nil && errors.Is(f.probes.TCP, errNoAnswer) {
				return failed("the program is stuck: "+f.To.Name+" has to be looked at",
					"%s listens at %s, but %d connections wait for the program", f.To.Name, s.Local, s.Queued)
			}
			return ok("%s listens at %s", f.To.Name, s.Local)
		}
		elsewhere = append(elsewhere, s.Local.Addr().String())
	}
	if len(elsewhere) > 0 {
		return failed("have the program listen at 0.0.0.0 or ::", "%s listens at port %d of %s only, not of %s",
			f.To.Name, f.Port, strings.Join(elsewhere, ", "), f.Address)
	}
	return failed("start the program, or see which port it listens at: weave inspect "+f.To.Name,
		"nobody listens at port %d in %s", f.Port, f.To.Name)
}

// ofConnection judges the answers to the probes.
func ofConnection(f facts) api.Checked {
	capture := "look where packets get lost: weave capture " + f.From.Name
	switch {
	case f.probes == nil:
		return unknown("no probe was sent: %v", f.unprobed)
	case f.Port > 0 && f.probes.TCP == nil:
		return ok("port %d of %s takes a connection", f.Port, f.Address)
	case f.Port > 0 && refused(f.probes.TCP):
		return failed("a firewall in the container, or another program with that address, refuses",
			"port %d of %s refuses the connection", f.Port, f.Address)
	case f.Port > 0:
		return failed(capture, "a connection to port %d of %s: %v", f.Port, f.Address, f.probes.TCP)
	case f.probes.Small != nil:
		return failed(capture, "a ping to %s: %v", f.Address, f.probes.Small)
	}
	return ok("%s answers a ping", f.Address)
}

// ofSize judges whether full-size packets pass, where small ones do.
func ofSize(f facts) api.Checked {
	switch {
	case f.probes == nil || f.probes.Small != nil:
		return unknown("%s answers no ping, so it is not known whether large packets pass", f.Address)
	case f.probes.Full != nil:
		advice := "see the MTU of both ends: ip link; between hosts: weave hosts"
		if f.to.Inside != nil && f.from.Inside != nil && f.to.Inside.MTU != f.from.Inside.MTU {
			advice = fmt.Sprintf("%s has an MTU of %d, %s of %d: set both to the network's, %d", f.From.Name,
				f.from.Inside.MTU, f.To.Name, f.to.Inside.MTU, f.From.Network.MTU)
		}
		return failed(advice, "packets of %d bytes get no answer, small ones do: %v", f.probes.Size, f.probes.Full)
	}
	return ok("packets of %d bytes pass", f.probes.Size)
}
