// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
)

// filterNetworks returns the ids of those networks that the filters mean. A filter that means none, or cannot decide
// between several, is an error.
func (s *Server) filterNetworks(
	filters []string, networks map[driver.NetworkID]driver.Network,
) (map[driver.NetworkID]bool, error) {
	candidates := make([]candidate, 0, len(networks))
	if len(filters) > 0 {
		for id := range networks {
			candidates = append(candidates, candidate{string(id), s.options.Names.NetworkName(string(id))})
		}
	}
	selected := map[driver.NetworkID]bool{}
	for _, f := range filters {
		ids, exact := match(f, candidates)
		if len(ids) == 0 {
			return nil, errorf(http.StatusNotFound, "parameter %s: %q: weave has no such network here",
				api.ParamNetwork, f)
		}
		if len(ids) > 1 && !exact {
			return nil, errorf(http.StatusBadRequest,
				"parameter %s: %q: %d networks begin so; want more of the id, or the name",
				api.ParamNetwork, f, len(ids))
		}
		for id := range ids {
			selected[driver.NetworkID(id)] = true
		}
	}
	return selected, nil
}

// filterContainers returns those endpoints of list that are in a container that one of the filters means, all of them
// if there are no filters. unmatched reports whether there is a filter that means no container.
func filterContainers(filters []string, list []api.Endpoint) (selected []api.Endpoint, unmatched bool) {
	if len(filters) == 0 {
		return list, false
	}
	candidates := make([]candidate, 0, len(list))
	for _, e := range list {
		if e.ContainerID != "" {
			candidates = append(candidates, candidate{e.ContainerID, e.ContainerName})
		}
	}
	containers := map[string]bool{}
	for _, f := range filters {
		f = strings.TrimPrefix(f, "/") // a name in Docker's API begins with a slash
		ids, _ := match(f, candidates)
		unmatched = unmatched || len(ids) == 0
		for id := range ids {
			containers[id] = true
		}
	}
	return slices.DeleteFunc(list, func(e api.Endpoint) bool {
		return e.ContainerID == "" || !containers[e.ContainerID]
	}), unmatched
}

// candidate is something that a filter may mean.
type candidate struct{ id, name string }

// minIDPrefix is how many characters of an id can stand for the whole.
const minIDPrefix = 4

// match returns the ids of the candidates that filter means. Those whose whole id or name it is are an exact match.
// Only if there is none are those meant whose ids begin with it.
func match(filter string, candidates []candidate) (ids map[string]bool, exact bool) {
	ids = map[string]bool{}
	for _, c := range candidates {
		if filter != "" && (filter == c.id || filter == c.name) {
			ids[c.id] = true
		}
	}
	if len(ids) > 0 {
		return ids, true
	}
	for _, c := range candidates {
		if len(filter) >= minIDPrefix && strings.HasPrefix(c.id, filter) {
			ids[c.id] = true
		}
	}
	return ids, false
}
