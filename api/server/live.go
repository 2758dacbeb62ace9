// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
)

// addLive adds to each entry of l what is really there of it, as source sees it, and the drift. It returns the entries
// without those of endpoints that were deleted meanwhile.
func (s *Server) addLive(ctx context.Context, l listing, source api.Source) []api.Endpoint {
	wanted := make([]driver.Endpoint, 0, len(l.entries))
	for _, e := range l.entries {
		wanted = append(wanted, l.tracked[driver.EndpointID(e.ID)])
	}
	observed := s.options.Inspector.Observe(ctx, wanted, source)
	after := map[driver.EndpointID]driver.Endpoint{}
	for _, e := range s.options.Tracker.Endpoints() {
		after[e.ID] = e
	}

	live := l.entries[:0]
	for i, before := range wanted {
		now, ok := after[before.ID]
		if !ok {
			continue
		}
		entry := l.entries[i]
		if o, ok := observed[before.ID]; ok {
			n := l.networks[before.Network]
			entry.Live = toLive(o, source)
			entry.Drift = inspect.Lasting(inspect.Drift(n, before, o), inspect.Drift(n, now, o))
		} else {
			entry.Live = &api.Live{Source: source, Error: "not observed"}
			entry.Drift = []api.Drift{{Kind: api.NotObserved, Text: "not observed: the time ran out"}}
		}
		live = append(live, entry)
	}
	return live
}

// toLive returns an observation as the API lists it; source is who was to look.
func toLive(o inspect.Observation, source api.Source) *api.Live {
	l := &api.Live{Source: cmp.Or(o.Source, source), Bridge: o.Bridge}
	if o.Err != nil {
		l.Error = o.Err.Error()
	}
	if o.Inside != nil {
		l.Name, l.MAC, l.Addresses, l.Up = o.Inside.Name, o.Inside.MAC.String(), o.Inside.Addresses, o.Inside.Up
	}
	return l
}
