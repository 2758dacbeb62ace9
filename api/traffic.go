// SPDX-License-Identifier: Apache-2.0

package api

import "context"

// PathTraffic is where traffic is listed: []Traffic.
const PathTraffic = "/v1/traffic"

// Traffic is what a container has sent and received by one endpoint of this host, as the endpoint's host end has
// counted it since it was made, and whether the two ends are connected.
type Traffic struct {
	EndpointID      string `json:"endpointId"`
	Up              bool   `json:"up"`      // the host end is set up
	Carrier         bool   `json:"carrier"` // the container end is up as well
	SentBytes       uint64 `json:"sentBytes"`
	SentPackets     uint64 `json:"sentPackets"`
	SentDropped     uint64 `json:"sentDropped"` // packets
	ReceivedBytes   uint64 `json:"receivedBytes"`
	ReceivedPackets uint64 `json:"receivedPackets"`
	ReceivedDropped uint64 `json:"receivedDropped"` // packets
}

// Traffic lists what the endpoints of this host have sent and received, by endpoint. It costs one listing of the host's
// links, however many endpoints there are. One whose host end is missing is left out.
func (c *Client) Traffic(ctx context.Context) ([]Traffic, error) {
	return get[[]Traffic](ctx, c, PathTraffic, nil)
}
