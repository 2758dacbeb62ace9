// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// EventType says what an event is about.
type EventType string

// The types of events.
const (
	NetworkEvent  EventType = "network"
	EndpointEvent EventType = "endpoint"
	DriftEvent    EventType = "drift"  // something is not as weave made it, or is so again
	RepairEvent   EventType = "repair" // weave has put something right
	ErrorEvent    EventType = "error"  // a call of Docker's has failed, or something can't be put right
	WeaveEvent    EventType = "weave"  // weave itself
	LostEvent     EventType = "lost"   // events that were asked for are not kept any more
)

// EventTypes are all types of events.
var EventTypes = []EventType{
	NetworkEvent, EndpointEvent, DriftEvent, RepairEvent, ErrorEvent, WeaveEvent, LostEvent,
}

// EventAction says what has happened. There may be others in future.
type EventAction string

// What happens to a network, to an endpoint, and so on.
const (
	ActionMade    EventAction = "made"    // a network; it can be used
	ActionRemoved EventAction = "removed" // a network

	ActionCreated EventAction = "created" // an endpoint: its veth pair is there
	ActionJoined  EventAction = "joined"  // Docker has a sandbox for it
	ActionUp      EventAction = "up"      // it is up in its sandbox
	ActionDown    EventAction = "down"    // its container end was set down, or is gone
	ActionShed    EventAction = "shed"    // it has given addresses away; the event has those that are left
	ActionLeft    EventAction = "left"    // it is in no sandbox any more
	ActionDeleted EventAction = "deleted"

	ActionFound EventAction = "found" // drift: it is there
	ActionGone  EventAction = "gone"  // drift: it is there no more

	ActionDone    EventAction = "done"    // a repair
	ActionFailed  EventAction = "failed"  // of an error
	ActionStarted EventAction = "started" // weave
	ActionMissed  EventAction = "missed"  // of a lost event
)

// Event is something that has happened on this host.
type Event struct {
	Cursor        string      `json:"cursor"` // its place: with it as EventQuery.Cursor the next one follows
	Time          time.Time   `json:"time"`
	Type          EventType   `json:"type"`
	Action        EventAction `json:"action"`
	NetworkID     string      `json:"networkId,omitempty"`
	NetworkName   string      `json:"networkName,omitempty"` // empty while weave has not read it from Docker's API
	EndpointID    string      `json:"endpointId,omitempty"`
	ContainerID   string      `json:"containerId,omitempty"`   // as NetworkName
	ContainerName string      `json:"containerName,omitempty"` // likewise
	// Addresses are those of an endpoint, IPv4 first, or the subnets of a network.
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Drift     DriftKind      `json:"drift,omitempty"` // of drift in a sandbox
	Text      string         `json:"text,omitempty"`  // for people: what is wrong, what was put right, what failed
	Cause     *Cause         `json:"cause,omitempty"` // nil: it is not known
}

// CauseKind says who has had something happen.
type CauseKind string

// The kinds of causes.
const (
	CauseDocker     CauseKind = "docker"     // Docker, by a call to weave
	CauseComparison CauseKind = "comparison" // weave, which has compared itself with what Docker's API lists
	CauseRepair     CauseKind = "repair"     // weave, which keeps the networks as it has made them
	CauseStart      CauseKind = "start"      // weave, which compares its state with the kernel when it starts
	CauseNetlink    CauseKind = "netlink"    // another program, by netlink
)

// Cause is why something has happened, as far as weave knows.
type Cause struct {
	Kind CauseKind `json:"kind"`
	// Call is what Docker has called ("NetworkDriver.Join"), or the kernel's message ("RTM_DELADDR").
	Call string `json:"call,omitempty"`
	// Port is that of the netlink socket which another program used, as far as the kernel tells. It mostly is the id of
	// the process, in that process's own PID namespace.
	Port uint32 `json:"port,omitempty"`
	By   string `json:"by,omitempty"` // the other program; empty where the kernel does not tell
}

// String returns the cause for people.
func (c Cause) String() string {
	text := string(c.Kind)
	if c.Call != "" {
		text += " " + c.Call
	}
	switch {
	case c.By != "":
		text += " by " + c.By
	case c.Port != 0:
		text += fmt.Sprintf(" by port %d", c.Port)
	}
	return text
}

// EventQuery says which events are wanted. An empty list excludes nothing.
type EventQuery struct {
	Types     []EventType
	Networks  []string // each an id, a name or the beginning of an id; events of no network are left out
	Endpoints []string // each an endpoint's or its container's id, the beginning of one, or the container's name

	// Cursor is that of an event: those after it are wanted, which weave still has, and then those that happen. If some
	// are not kept any more, which is so of all that happened before weave started, the first event is a LostEvent.
	// Empty: those from Since on and, if that is zero, those that happen.
	Cursor string
	Since  time.Time // those that happened then or later
	Until  time.Time // those that happened before; the stream ends then. Zero: it goes on
}

// The names of an EventQuery's parameters in a URL, besides ParamNetwork.
const (
	ParamType     = "type"
	ParamEndpoint = "endpoint"
	ParamCursor   = "cursor"
	ParamSince    = "since"
	ParamUntil    = "until"
)

// Values returns q as the parameters of a URL.
func (q EventQuery) Values() url.Values {
	v := url.Values{}
	for _, t := range q.Types {
		v.Add(ParamType, string(t))
	}
	for _, n := range q.Networks {
		v.Add(ParamNetwork, n)
	}
	for _, e := range q.Endpoints {
		v.Add(ParamEndpoint, e)
	}
	if q.Cursor != "" {
		v.Set(ParamCursor, q.Cursor)
	}
	for name, at := range map[string]time.Time{ParamSince: q.Since, ParamUntil: q.Until} {
		if !at.IsZero() {
			v.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	return v
}

// Events returns a stream of the events that q selects. When it returns, weave listens for the reader: what happens
// from then on is in the stream. It lasts until ctx ends, or Close is called.
func (c *Client) Events(ctx context.Context, q EventQuery) (*EventStream, error) {
	u := url.URL{Scheme: "http", Host: "weave", Path: PathEvents, RawQuery: q.Values().Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("request %s: %w", PathEvents, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode == http.StatusOK {
		body := &io.LimitedReader{R: resp.Body, N: maxEvent}
		return &EventStream{client: c, body: resp.Body, limit: body, events: json.NewDecoder(body)}, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
	if err != nil {
		return nil, c.explain(err)
	}
	return nil, c.decode(resp.StatusCode, body, nil)
}

// maxEvent bounds an event, in bytes, as it is read.
const maxEvent = 1 << 20

// EventStream is a stream of events. One goroutine at a time may use it.
type EventStream struct {
	client *Client
	body   io.ReadCloser
	limit  *io.LimitedReader
	events *json.Decoder
}

// Next waits for the next event. It returns io.EOF when there is none any more: the time until which they were asked
// for has come, or weave stops.
func (s *EventStream) Next() (Event, error) {
	var e Event
	s.limit.N = maxEvent
	err := s.events.Decode(&e)
	if err == nil || err == io.EOF { //nolint:errorlint // as io.Reader has it
		return e, err
	}
	return e, s.client.explain(err)
}

// Close ends the stream.
func (s *EventStream) Close() { s.body.Close() }
