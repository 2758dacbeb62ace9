// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// PathCheck is where a check is requested: Check.
const PathCheck = "/v1/check"

// The names of a check's parameters in a URL.
const (
	ParamFrom = "from"
	ParamTo   = "to"
	ParamPort = "port"
)

// CheckLayer is a part of the way from one container to another.
type CheckLayer string

// The layers, in the order of the way.
const (
	LayerFrom       CheckLayer = "from"       // the container that sends: its link, its address, its port of the bridge
	LayerRoute      CheckLayer = "route"      // where it sends packets for the address
	LayerTo         CheckLayer = "to"         // the container that is to be reached, likewise
	LayerNeighbour  CheckLayer = "neighbour"  // who answers for the address, by ARP or neighbour discovery
	LayerFirewall   CheckLayer = "firewall"   // the host's rules
	LayerListener   CheckLayer = "listener"   // the program that listens at the port
	LayerConnection CheckLayer = "connection" // the answers to probes
	LayerSize       CheckLayer = "size"       // whether packets as large as the MTU pass
)

// CheckResult is what was found of a layer.
type CheckResult string

// The results.
const (
	CheckOK      CheckResult = "ok"
	CheckFailed  CheckResult = "failed"
	CheckUnknown CheckResult = "unknown" // it could not be looked at, or does not matter
)

// Check is what was found on the way from one container to another.
type Check struct {
	Question string     `json:"question"`         // what was asked, for people
	Failed   CheckLayer `json:"failed,omitempty"` // the first layer that fails; empty: none does
	Layers   []Checked  `json:"layers"`           // in the order of the way
}

// Checked is what was found of one layer.
type Checked struct {
	Layer    CheckLayer  `json:"layer"`
	Result   CheckResult `json:"result"`
	Evidence string      `json:"evidence"`         // for people
	Advice   string      `json:"advice,omitempty"` // what to do, if the layer fails
}

// Check walks the way from a container to another one, or to an address, and names the first layer that fails. From is
// named as for Inspect, or is a container on several networks; so is to. Port is one of TCP; 0: none. Only root can do
// that.
func (c *Client) Check(ctx context.Context, from, to string, port uint16) (Check, error) {
	parameters := url.Values{ParamFrom: {from}, ParamTo: {to}}
	if port > 0 {
		parameters.Set(ParamPort, strconv.Itoa(int(port)))
	}
	return request[Check](ctx, c, http.MethodPost, url.URL{Path: PathCheck, RawQuery: parameters.Encode()})
}
