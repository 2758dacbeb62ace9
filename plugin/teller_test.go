// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/events"
	"github.com/weaveplugin/weave/plugin/metrics"
	"github.com/weaveplugin/weave/plugin/remote"
)

func TestTeller(t *testing.T) {
	address := []netip.Prefix{netip.MustParsePrefix("10.32.0.2/22")}
	subnet := []netip.Prefix{netip.MustParsePrefix("10.32.0.0/22")}
	nw := driver.Network{Definition: driver.Definition{ID: "n", Pools: []driver.Pool{{Subnet: subnet[0]}}}}
	ep := driver.Endpoint{ID: "e", Network: "n", Addresses: address}
	missing := api.Drift{Kind: api.AddressMissing, Text: "address missing"}
	byNetlink := &api.Cause{Kind: api.CauseNetlink, Call: "RTM_DELADDR"}
	change := func(c driver.Change) func(*teller) { return func(t *teller) { t.tell(eventOf(c)) } }
	for _, tt := range []struct {
		name string
		tell func(*teller)
		want []api.Event
	}{
		{"network", change(driver.Change{
			Kind: driver.NetworkMade, Network: nw,
			Cause: driver.Cause{Kind: driver.CauseDocker, By: "NetworkDriver.CreateNetwork"},
		}), []api.Event{{
			Type: api.NetworkEvent, Action: api.ActionMade, NetworkID: "n", Addresses: subnet,
			Cause: &api.Cause{Kind: api.CauseDocker, Call: "NetworkDriver.CreateNetwork"},
		}}},
		{"endpoint", change(driver.Change{Kind: driver.EndpointUp, Endpoint: ep}), []api.Event{{
			Type: api.EndpointEvent, Action: api.ActionUp, NetworkID: "n", EndpointID: "e", Addresses: address,
		}}},
		{"drift on the host", change(driver.Change{
			Kind: driver.Drifted, Network: nw, What: "bridge br0: down",
			Cause: driver.Cause{Kind: driver.CauseNetlink, By: "networkd"},
		}), []api.Event{{
			Type: api.DriftEvent, Action: api.ActionFound, NetworkID: "n", Text: "bridge br0: down",
			Cause: &api.Cause{Kind: api.CauseNetlink, By: "networkd"},
		}}},
		{"drift in a sandbox", func(t *teller) {
			t.drifted(inspect.Change{Endpoint: ep, Drift: missing, Cause: byNetlink})
			t.drifted(inspect.Change{Endpoint: ep, Drift: missing, Over: true})
		}, []api.Event{{
			Type: api.DriftEvent, Action: api.ActionFound, NetworkID: "n", EndpointID: "e", Addresses: address,
			Drift: api.AddressMissing, Text: "address missing", Cause: byNetlink,
		}, {
			Type: api.DriftEvent, Action: api.ActionGone, NetworkID: "n", EndpointID: "e", Addresses: address,
			Drift: api.AddressMissing, Text: "address missing",
		}}},
		{"calls", func(t *teller) {
			t.called(remote.Call{Name: "NetworkDriver.Join", Network: "n", Endpoint: "e"})
			t.called(remote.Call{Name: "NetworkDriver.Join", Network: "n", Endpoint: "e", Err: errors.New("no")})
		}, []api.Event{{
			Type: api.ErrorEvent, Action: api.ActionFailed, NetworkID: "n", EndpointID: "e", Text: "no",
			Cause: &api.Cause{Kind: api.CauseDocker, Call: "NetworkDriver.Join"},
		}}},
		{"start", func(t *teller) {
			t.started("1.0", driver.Report{
				Networks: 1, Endpoints: 2, Repaired: []string{"bridge br0: missing"}, Removed: []string{"host end x"},
				Problems: []string{"bridge br1: not there"},
			})
		}, []api.Event{
			{Type: api.WeaveEvent, Action: api.ActionStarted, Text: "weave 1.0: networks: 1, endpoints: 2"},
			{Type: api.RepairEvent, Action: api.ActionDone, Text: "bridge br0: missing"},
			{Type: api.RepairEvent, Action: api.ActionDone, Text: "host end x: removed"},
			{Type: api.ErrorEvent, Action: api.ActionFailed, Text: "bridge br1: not there"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			teller := &teller{events: events.New(), metrics: metrics.New("", "")}
			reader := teller.events.NewReader()
			tt.tell(teller)
			teller.events.Close()
			var got []api.Event
			for {
				e, err := reader.Next(t.Context())
				if err != nil {
					break
				}
				if e.Cause != nil && e.Cause.Kind == api.CauseStart {
					e.Cause = nil // all of the start have it
				}
				got = append(got, e)
			}
			ignore := cmpopts.IgnoreFields(api.Event{}, "Cursor", "Time")
			if diff := cmp.Diff(tt.want, got, ignore, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTellerKnowsAllChanges: each kind of change of the driver's is an event.
func TestTellerKnowsAllChanges(t *testing.T) {
	for _, kind := range []driver.ChangeKind{
		driver.NetworkMade, driver.NetworkRemoved, driver.EndpointCreated, driver.EndpointJoined, driver.EndpointUp,
		driver.EndpointDown, driver.EndpointShed, driver.EndpointLeft, driver.EndpointDeleted, driver.Drifted,
		driver.Repaired,
	} {
		if e := eventOf(driver.Change{Kind: kind}); e.Type == "" || e.Action == "" {
			t.Errorf("%s is %+v", kind, e)
		}
	}
}
