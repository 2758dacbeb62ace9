// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// toSandbox returns what was found in a sandbox as the API has it.
func toSandbox(s *netstate.Snapshot) api.Sandbox {
	out := api.Sandbox{
		Links: []api.Link{}, Routes: []api.Route{}, Neighbours: []api.Neighbour{}, Rules: []api.Rule{},
	}
	names := map[int]string{}
	for _, l := range s.Links {
		names[l.Index] = l.Name
		out.Links = append(out.Links, toLink(l))
	}
	for _, r := range s.Routes {
		out.Routes = append(out.Routes, api.Route{
			Destination: r.Destination, Gateway: r.Gateway, Link: names[r.Link], Metric: r.Metric, MTU: r.MTU,
		})
	}
	for _, n := range s.Neighbours {
		out.Neighbours = append(out.Neighbours, api.Neighbour{
			Address: n.Address, MAC: n.MAC.String(), Link: names[n.Link], State: n.State,
		})
	}
	for _, r := range s.Rules {
		out.Rules = append(out.Rules, toRule(r))
	}
	if s.HasSockets {
		out.Sockets = []api.Socket{}
	}
	for _, k := range s.Sockets {
		out.Sockets = append(out.Sockets, api.Socket{
			Protocol: k.Protocol, Address: k.Local, UID: k.UID, Queued: k.Queued,
		})
	}
	return out
}

func toLink(l netstate.Link) api.Link {
	out := api.Link{
		Index: l.Index, Name: l.Name, Kind: l.Kind, MAC: l.MAC.String(), MTU: l.MTU, Up: l.Up, Carrier: l.Carrier,
		Peer: l.Peer, Addresses: orEmpty(l.Addresses),
	}
	if l.Counters != nil {
		c := api.Counters(*l.Counters)
		out.Counters = &c
	}
	return out
}

// toRule returns a rule of policy routing as ip-rule(8) writes it.
func toRule(r netstate.Rule) api.Rule {
	var match []string
	add := func(format string, args ...any) { match = append(match, fmt.Sprintf(format, args...)) }
	if r.Inverted {
		add("not")
	}
	add("from %s", prefixOrAll(r.From))
	if r.To.IsValid() {
		add("to %s", r.To)
	}
	switch r.Mask {
	case 0:
	case math.MaxUint32:
		add("fwmark %#x", r.Mark)
	default:
		add("fwmark %#x/%#x", r.Mark, r.Mask)
	}
	if r.In != "" {
		add("iif %s", r.In)
	}
	if r.Out != "" {
		add("oif %s", r.Out)
	}
	if r.Partial {
		add("?")
	}
	action := r.Action
	if action == "lookup" {
		names := map[int]string{253: "default", 254: "main", 255: "local"}
		if name := names[r.Table]; name != "" {
			action += " " + name
		} else {
			action += " " + strconv.Itoa(r.Table)
		}
	}
	return api.Rule{Priority: r.Priority, IPv6: r.IPv6, Match: strings.Join(match, " "), Action: action}
}

func prefixOrAll(p netip.Prefix) string {
	if !p.IsValid() {
		return "all"
	}
	return p.String()
}
