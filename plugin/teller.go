// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/events"
	"github.com/weaveplugin/weave/plugin/dockersync"
	"github.com/weaveplugin/weave/plugin/metrics"
	"github.com/weaveplugin/weave/plugin/remote"
)

// tellerBuffer is how many changes of the driver's are kept for the teller, which waits for nothing.
const tellerBuffer = 1024

// teller turns what happens into events.
type teller struct {
	events  *events.Log
	changes *driver.Subscription
	names   *dockersync.Watcher // nil: nothing has a name
	metrics *metrics.Metrics
}

// newTeller returns a teller, which keeps what happens from now on until run tells it.
func newTeller(d *driver.Driver, names *dockersync.Watcher, m *metrics.Metrics) *teller {
	changes, _ := d.Subscribe(tellerBuffer)
	return &teller{events: events.New(), changes: changes, names: names, metrics: m}
}

// add adds an event, and counts it.
func (t *teller) add(e api.Event) {
	t.events.Add(e)
	t.metrics.Event(e)
}

// run tells the driver's changes until ctx ends.
func (t *teller) run(ctx context.Context) {
	defer t.changes.Close()
	for {
		change, err := t.changes.Next(ctx)
		switch {
		case errors.Is(err, driver.ErrMissed):
			t.changes.Resync()
			t.add(api.Event{
				Type: api.LostEvent, Action: api.ActionMissed,
				Text: "more has happened at once than weave keeps: some of it is lost",
			})
		case err != nil:
			return
		default:
			t.tell(eventOf(change))
		}
	}
}

// tell adds an event, with the names that are known.
func (t *teller) tell(e api.Event) {
	if t.names != nil {
		e.NetworkName = t.names.NetworkName(e.NetworkID)
		e.ContainerID, e.ContainerName = t.names.Container(e.EndpointID)
	}
	t.add(e)
}

// actions are the types and actions of the driver's changes as events.
var actions = map[driver.ChangeKind]struct {
	is     api.EventType
	action api.EventAction
}{
	driver.NetworkMade:     {api.NetworkEvent, api.ActionMade},
	driver.NetworkRemoved:  {api.NetworkEvent, api.ActionRemoved},
	driver.EndpointCreated: {api.EndpointEvent, api.ActionCreated},
	driver.EndpointJoined:  {api.EndpointEvent, api.ActionJoined},
	driver.EndpointUp:      {api.EndpointEvent, api.ActionUp},
	driver.EndpointDown:    {api.EndpointEvent, api.ActionDown},
	driver.EndpointShed:    {api.EndpointEvent, api.ActionShed},
	driver.EndpointLeft:    {api.EndpointEvent, api.ActionLeft},
	driver.EndpointDeleted: {api.EndpointEvent, api.ActionDeleted},
	driver.Drifted:         {api.DriftEvent, api.ActionFound},
	driver.Repaired:        {api.RepairEvent, api.ActionDone},
}

// eventOf returns a change of the driver's as an event.
func eventOf(c driver.Change) api.Event {
	a := actions[c.Kind]
	e := api.Event{
		Time: c.Time, Type: a.is, Action: a.action, NetworkID: string(cmp.Or(c.Network.ID, c.Endpoint.Network)),
		EndpointID: string(c.Endpoint.ID), Text: c.What, Cause: causeOf(c.Cause),
	}
	switch a.is {
	case api.EndpointEvent:
		e.Addresses = c.Endpoint.Addresses
	case api.NetworkEvent:
		for _, p := range c.Network.Pools {
			e.Addresses = append(e.Addresses, p.Subnet)
		}
	}
	return e
}

// causeOf returns a cause of the driver's as the API has it; nil if it is not known.
func causeOf(c driver.Cause) *api.Cause {
	switch c.Kind {
	case "":
		return nil
	case driver.CauseDocker:
		return &api.Cause{Kind: api.CauseDocker, Call: c.By}
	}
	return &api.Cause{Kind: api.CauseKind(c.Kind), By: c.By}
}

// called counts a call of Docker's, and tells of one that has failed.
func (t *teller) called(c remote.Call) {
	t.metrics.Call(c.Name, c.Took, c.Err)
	if c.Err == nil {
		return
	}
	t.tell(api.Event{
		Type: api.ErrorEvent, Action: api.ActionFailed, NetworkID: c.Network, EndpointID: c.Endpoint,
		Text: c.Err.Error(), Cause: &api.Cause{Kind: api.CauseDocker, Call: c.Name},
	})
}

// drifted tells of drift in a sandbox.
func (t *teller) drifted(c inspect.Change) {
	e := api.Event{
		Type: api.DriftEvent, Action: api.ActionFound, NetworkID: string(c.Endpoint.Network),
		EndpointID: string(c.Endpoint.ID), Addresses: c.Endpoint.Addresses, Drift: c.Drift.Kind, Text: c.Drift.Text,
		Cause: c.Cause,
	}
	if c.Over {
		e.Action = api.ActionGone
	}
	t.tell(e)
}

// started tells that weave has started, and what it has found and put right then.
func (t *teller) started(version string, r driver.Report) {
	cause := &api.Cause{Kind: api.CauseStart}
	t.add(api.Event{
		Type: api.WeaveEvent, Action: api.ActionStarted, Cause: cause,
		Text: fmt.Sprintf("weave %s: networks: %d, endpoints: %d", version, r.Networks, r.Endpoints),
	})
	for _, what := range r.Repaired {
		t.add(api.Event{Type: api.RepairEvent, Action: api.ActionDone, Text: what, Cause: cause})
	}
	for _, what := range r.Removed {
		t.add(api.Event{Type: api.RepairEvent, Action: api.ActionDone, Text: what + ": removed", Cause: cause})
	}
	for _, what := range r.Problems {
		t.add(api.Event{Type: api.ErrorEvent, Action: api.ActionFailed, Text: what, Cause: cause})
	}
}
