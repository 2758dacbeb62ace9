// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// PathCheck is where a check is requested: Check.
const PathCheck = "/v1/check"

// PathCheckAll is where a check of all pairs is requested: CheckAll.
const PathCheckAll = PathCheck + "/all"

// TypeLines is the media type of what CheckAll reads: a CheckLine in JSON a line.
const TypeLines = "application/x-ndjson"

// MaxPairs is how many pairs CheckAll checks at most.
const MaxPairs = 1024

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
	LayerName       CheckLayer = "name"       // what the container that sends finds for the name
	LayerFrom       CheckLayer = "from"       // the container that sends: its link, its address, its port of the bridge
	LayerRoute      CheckLayer = "route"      // where it sends packets for the address
	LayerTo         CheckLayer = "to"         // the container that is to be reached, likewise
	LayerNeighbour  CheckLayer = "neighbour"  // who answers for the address, by ARP or neighbour discovery
	LayerBridge     CheckLayer = "bridge"     // whether the bridge sends to the right ports
	LayerFirewall   CheckLayer = "firewall"   // the host's rules
	LayerListener   CheckLayer = "listener"   // the program that listens at the port
	LayerBack       CheckLayer = "back"       // route and neighbour of the answers
	LayerConnection CheckLayer = "connection" // the answers to probes
	LayerSize       CheckLayer = "size"       // whether packets as large as the MTU pass
)

// CheckResult is what was found of a layer, or of a part of the host.
type CheckResult string

// The results.
const (
	CheckOK      CheckResult = "ok"
	CheckFailed  CheckResult = "failed"
	CheckWarning CheckResult = "warning" // of the host: something works that may not for long, or not as one expects
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
// named as for Inspect, or is a container on several networks; so is to, which may be a container on another host, too,
// on a network of the cluster that this host is on. Port is one of TCP; 0: none. By the API's
// socket only root can do that.
func (c *Client) Check(ctx context.Context, from, to string, port uint16) (Check, error) {
	parameters := url.Values{ParamFrom: {from}, ParamTo: {to}}
	if port > 0 {
		parameters.Set(ParamPort, strconv.Itoa(int(port)))
	}
	return request[Check](ctx, c, http.MethodPost, url.URL{Path: PathCheck, RawQuery: parameters.Encode()})
}

// CheckLine is a line of the answer to a check of all pairs: one of the pairs, or the end.
type CheckLine struct {
	Pair    *PairCheck    `json:"pair,omitempty"`
	Summary *CheckSummary `json:"summary,omitempty"`
}

// PairCheck is what was found on the way from one container to another on a network that both are on.
type PairCheck struct {
	Network string `json:"network,omitempty"` // its name, where that is known
	From    string `json:"from"`              // for people
	To      string `json:"to"`                // likewise
	Check   Check  `json:"check"`
}

// CheckSummary counts pairs.
type CheckSummary struct {
	Checked int `json:"checked"`
	Failed  int `json:"failed"`  // of those that were checked
	LeftOut int `json:"leftOut"` // since there are more than MaxPairs
}

// errCutOff means that a check of all pairs has ended early.
var errCutOff = errors.New("the answer has ended early: weave is stopping, or see its log")

// CheckAll checks each two running containers of this host that share a network, of the networks that are named by id,
// the beginning of one or name, all if none is. It hands each pair to found in turn; an error of that ends it. Port is
// as for Check. It takes as long as it takes. Only root can do that.
func (c *Client) CheckAll(
	ctx context.Context, networks []string, port uint16, found func(PairCheck) error,
) (CheckSummary, error) {
	parameters := url.Values{ParamNetwork: networks}
	if port > 0 {
		parameters.Set(ParamPort, strconv.Itoa(int(port)))
	}
	r, w := io.Pipe()
	defer func() { _ = r.Close() }() // which ends the stream, and never fails
	go func() {
		w.CloseWithError(c.stream(ctx, w, url.URL{Path: PathCheckAll, RawQuery: parameters.Encode()}, nil))
	}()
	for d := json.NewDecoder(r); ; {
		var line CheckLine
		switch err := d.Decode(&line); {
		case ctx.Err() != nil:
			return CheckSummary{}, ctx.Err()
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return CheckSummary{}, errCutOff
		case err != nil:
			return CheckSummary{}, err
		case line.Summary != nil:
			return *line.Summary, nil
		case line.Pair != nil:
			if err := found(*line.Pair); err != nil {
				return CheckSummary{}, err
			}
		}
	}
}
