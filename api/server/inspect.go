// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/driver/inspect"
)

// Rules lists the rules of the host's packet filter that are about a network. driver.Driver is one.
type Rules interface {
	FirewallRules(context.Context, driver.Network) ([]firewall.Rule, error)
}

// DNS knows where the questions of a container for names go.
type DNS interface {
	DNS(ctx context.Context, container string) (*api.DNS, error)
}

// inspect answers with everything about one endpoint.
func (s *Server) inspect(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	entry, err := s.selectEndpoint(ctx, r.PathValue("endpoint"))
	if err != nil {
		return nil, err
	}
	before, ok := s.tracked(entry.ID)
	if !ok {
		return nil, goneError(entry.ID)
	}
	x := s.options.Inspector.Examine(ctx, before.endpoint)
	now, ok := s.tracked(entry.ID)
	if !ok {
		return nil, goneError(entry.ID)
	}
	entry.Live = toLive(x.Observation, api.Nsproc)
	entry.Drift = inspect.Lasting(inspect.Drift(before.network, before.endpoint, x.Observation),
		inspect.Drift(now.network, now.endpoint, x.Observation))
	for i, d := range entry.Drift {
		entry.Drift[i].Advice = inspect.Advice(d.Kind)
	}
	out := api.Inspection{
		Endpoint: entry, Network: s.toNetwork(now.network, now.neighbours), Problems: orEmpty(x.Problems),
	}
	addLinks(&out, x)
	s.addRules(ctx, &out, now.network)
	s.addDNS(ctx, &out)
	return out, nil
}

func goneError(id string) error {
	return errorf(http.StatusNotFound, "endpoint %.12s is gone by now", id)
}

// trackedEndpoint is an endpoint with its network, and how many endpoints that has.
type trackedEndpoint struct {
	endpoint   driver.Endpoint
	network    driver.Network
	neighbours int
}

func (s *Server) tracked(id string) (t trackedEndpoint, ok bool) {
	endpoints := s.options.Tracker.Endpoints()
	for _, e := range endpoints {
		if string(e.ID) == id {
			t.endpoint, ok = e, true
		}
	}
	for _, e := range endpoints {
		if e.Network == t.endpoint.Network {
			t.neighbours++
		}
	}
	for _, n := range s.options.Tracker.Networks() {
		if n.ID == t.endpoint.Network {
			t.network = n
		}
	}
	return t, ok
}

// addLinks adds both ends of the veth pair, and the sandbox.
func addLinks(out *api.Inspection, x inspect.Examination) {
	if x.Host != nil {
		out.HostEnd = &api.HostEnd{
			Link: toLink(*x.Host), State: x.Host.PortState, Isolated: x.Host.Isolated, Qdisc: x.Host.Qdisc,
			Stations: []api.Station{},
		}
		for _, st := range x.Stations {
			out.HostEnd.Stations = append(out.HostEnd.Stations, api.Station{
				MAC: st.MAC.String(), Permanent: st.Permanent,
			})
		}
	}
	if x.Inside != nil {
		inside := toLink(*x.Inside)
		out.Inside = &inside
	}
	if x.Sandbox != nil {
		sandbox := toSandbox(x.Sandbox)
		out.Sandbox = &sandbox
	}
}

func (s *Server) addRules(ctx context.Context, out *api.Inspection, n driver.Network) {
	out.Rules = []api.FirewallRule{}
	if s.options.Rules == nil {
		return
	}
	rules, err := s.options.Rules.FirewallRules(ctx, n)
	if err != nil {
		out.Problems = append(out.Problems, err.Error())
	}
	for _, r := range rules {
		rule := api.FirewallRule{Table: r.Table, Rule: r.Text}
		if r.Counted {
			rule.Packets, rule.Bytes = &r.Packets, &r.Bytes
		}
		out.Rules = append(out.Rules, rule)
	}
}

func (s *Server) addDNS(ctx context.Context, out *api.Inspection) {
	if s.options.DNS == nil || out.Endpoint.ContainerID == "" {
		return
	}
	dns, err := s.options.DNS.DNS(ctx, out.Endpoint.ContainerID)
	if err != nil {
		out.Problems = append(out.Problems, fmt.Sprintf("the container's resolver: %v", err))
		return
	}
	out.DNS = dns
}
