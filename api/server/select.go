// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/weaveplugin/weave/api"
)

// selectEndpoint returns the endpoint of this host that a name means: its id or the beginning of that, or the id or the
// name of its container, if that has no other.
func (s *Server) selectEndpoint(ctx context.Context, name string) (api.Endpoint, error) {
	found, err := s.allEndpoints(ctx, api.ParamEndpoint, name)
	switch {
	case err != nil:
		return api.Endpoint{}, err
	case len(found) == 1:
		return found[0], nil
	}
	var choice []string
	for _, e := range found {
		choice = append(choice, fmt.Sprintf("%.12s (%s on %s)", e.ID, e.ContainerName, e.NetworkName))
	}
	return api.Endpoint{}, errorf(http.StatusBadRequest, "endpoint %q: could be any of %s: want the id of one",
		name, strings.Join(choice, ", "))
}

// allEndpoints returns the endpoints of this host, at least one, that a name means. The name is the value of a
// parameter.
func (s *Server) allEndpoints(ctx context.Context, parameter, name string) ([]api.Endpoint, error) {
	if err := checkFilters(parameter, []string{name}); err != nil {
		return nil, badRequest(err)
	}
	found := s.matchEndpoints(name)
	if len(found) == 0 {
		s.refresh(ctx)
		found = s.matchEndpoints(name)
	}
	if len(found) == 0 {
		return nil, errorf(http.StatusNotFound,
			"%s %q: neither an endpoint of weave on this host nor a container that has one", parameter, name)
	}
	return found, nil
}

// matchEndpoints returns the endpoints of this host that a name means, as in selectEndpoint.
func (s *Server) matchEndpoints(name string) []api.Endpoint {
	l, err := s.selectEndpoints(api.Query{Local: true})
	if err != nil {
		return nil // it has no filters that could be wrong
	}
	candidates := make([]candidate, len(l.entries))
	for i, e := range l.entries { // a container's name goes before the beginning of another endpoint's id
		candidates[i] = candidate{e.ID, e.ContainerName}
	}
	ids, _ := match(strings.TrimPrefix(name, "/"), candidates)
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
