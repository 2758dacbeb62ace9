// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/rtnl"
	"github.com/weaveplugin/weave/nsproc/trace"
)

// Nsproc runs nsproc in the sandbox of an endpoint. driver.Driver is one.
type Nsproc interface {
	RunNsproc(context.Context, driver.EndpointID, driver.NsprocRequest) (launch.Run, error)
}

func (s *Server) runNsproc(ctx context.Context, r *http.Request) (any, error) {
	parameters, err := parseParameters(r.URL.RawQuery, api.ParamRequest, api.ParamTrace)
	if err != nil {
		return nil, badRequest(err)
	}
	requested := parameters.Get(api.ParamRequest)
	if requested != api.NsprocList && requested != api.NsprocConfigure {
		return nil, errorf(http.StatusBadRequest, "parameter %s: %.80q: want %s or %s",
			api.ParamRequest, requested, api.NsprocList, api.NsprocConfigure)
	}
	if s.options.Nsproc == nil {
		return nil, errorf(http.StatusNotFound, "nsproc can't be run by hand here")
	}
	entry, err := s.selectEndpoint(ctx, r.PathValue("endpoint"))
	if err != nil {
		return nil, err
	}
	run, err := s.options.Nsproc.RunNsproc(ctx, driver.EndpointID(entry.ID), driver.NsprocRequest(requested))
	if errors.Is(err, driver.ErrNotFound) {
		return nil, errorf(http.StatusNotFound, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	return toNsprocRun(entry, run, parameters.Get(api.ParamTrace) == "1")
}

// selectEndpoint returns the endpoint of this host that a name means: its id or the beginning of that, or the id or the
// name of its container, if that has no other.
func (s *Server) selectEndpoint(ctx context.Context, name string) (api.Endpoint, error) {
	if err := checkFilters("endpoint", []string{name}); err != nil {
		return api.Endpoint{}, badRequest(err)
	}
	found := s.matchEndpoints(name)
	if len(found) == 0 {
		s.refresh(ctx)
		found = s.matchEndpoints(name)
	}
	switch len(found) {
	case 0:
		return api.Endpoint{}, errorf(http.StatusNotFound,
			"endpoint %q: neither an endpoint of weave on this host nor a container that has one", name)
	case 1:
		return found[0], nil
	}
	var choice []string
	for _, e := range found {
		choice = append(choice, fmt.Sprintf("%.12s (%s on %s)", e.ID, e.ContainerName, e.NetworkName))
	}
	return api.Endpoint{}, errorf(http.StatusBadRequest, "endpoint %q: could be any of %s: want the id of one",
		name, strings.Join(choice, ", "))
}

// matchEndpoints returns the endpoints of this host that a name means, as in selectEndpoint.
func (s *Server) matchEndpoints(name string) []api.Endpoint {
	l, err := s.selectEndpoints(api.Query{Local: true})
	if err != nil {
		return nil // it has no filters that could be wrong
	}
	candidates := make([]candidate, len(l.entries))
	for i, e := range l.entries {
		candidates[i] = candidate{id: e.ID}
	}
	ids, _ := match(name, candidates)
	if len(ids) == 0 {
		found, _ := filterContainers([]string{name}, l.entries)
		return found
	}
	var found []api.Endpoint
	for _, e := range l.entries {
		if ids[e.ID] {
			found = append(found, e)
		}
	}
	return found
}

// toNsprocRun returns a run as the API has it.
func toNsprocRun(entry api.Endpoint, run launch.Run, traced bool) (api.NsprocRun, error) {
	request, err := json.Marshal(run.Request)
	if err != nil {
		return api.NsprocRun{}, err
	}
	r := api.NsprocRun{Endpoint: entry, Request: request, Truncated: !run.Whole, Took: run.Took.Seconds()}
	if traced {
		r.Trace = trace.Lines(run.Datagrams)
	}
	switch {
	case run.Err != nil:
		r.Error = run.Err.Error()
	case run.Request.List != nil:
		snapshot, err := rtnl.Decode(run.Answer)
		if err != nil {
			return api.NsprocRun{}, fmt.Errorf("decode nsproc's answer: %w", err)
		}
		if r.Answer, err = json.Marshal(toSandbox(snapshot)); err != nil {
			return api.NsprocRun{}, err
		}
	default:
		r.Answer = run.Answer
	}
	return r, nil
}

// toSandbox returns what was found in a sandbox as the API has it.
func toSandbox(s *netstate.Snapshot) api.Sandbox {
	out := api.Sandbox{Links: []api.Link{}, Routes: []api.Route{}, Neighbours: []api.Neighbour{}}
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
	return out
}

func toLink(l netstate.Link) api.Link {
	return api.Link{
		Index: l.Index, Name: l.Name, Kind: l.Kind, MAC: l.MAC.String(), MTU: l.MTU, Up: l.Up, Carrier: l.Carrier,
		Peer: l.Peer, Addresses: orEmpty(l.Addresses),
	}
}
