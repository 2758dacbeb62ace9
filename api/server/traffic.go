// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// traffic answers with what the host ends have counted.
func (s *Server) traffic(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	list := []api.Traffic{}
	if s.options.Links == nil {
		return list, nil
	}
	host, err := s.options.Links(ctx)
	if err != nil {
		return nil, errorf(http.StatusServiceUnavailable, "traffic is not known now, ask again: %v", err)
	}
	links := make(map[string]netstate.Link, len(host.Links))
	for _, l := range host.Links {
		links[l.Name] = l
	}
	for _, e := range s.options.Tracker.Endpoints() {
		if l, ok := links[e.HostEnd]; ok && l.Counters != nil {
			list = append(list, toTraffic(string(e.ID), l))
		}
	}
	slices.SortFunc(list, func(a, b api.Traffic) int { return cmp.Compare(a.EndpointID, b.EndpointID) })
	return list, nil
}

// toTraffic returns what a host end has counted as its container sees it: what the host end receives, the container has
// sent.
func toTraffic(endpoint string, l netstate.Link) api.Traffic {
	return api.Traffic{
		EndpointID: endpoint, Up: l.Up, Carrier: l.Carrier,
		SentBytes: l.Counters.RxBytes, SentPackets: l.Counters.RxPackets, SentDropped: l.Counters.RxDropped,
		ReceivedBytes: l.Counters.TxBytes, ReceivedPackets: l.Counters.TxPackets,
		ReceivedDropped: l.Counters.TxDropped,
	}
}
