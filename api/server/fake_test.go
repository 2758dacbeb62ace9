// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

var day = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// id returns an id as long as Docker's that begins so.
func id(begin string) string { return begin + strings.Repeat("0", 64-len(begin)) }

// fakeHost is the Tracker and the Inspector of a host without containers.
type fakeHost struct {
	networks  []driver.Network
	endpoints []driver.Endpoint
	observed  map[driver.EndpointID]inspect.Observation

	meanwhile func()                // if set, called by Observe
	listen    func(context.Context) // if set, called by Listen

	// What the last Observe was called with.
	wanted      []driver.EndpointID
	source      api.Source
	hasDeadline bool
}

func (f *fakeHost) Networks() []driver.Network   { return f.networks }
func (f *fakeHost) Endpoints() []driver.Endpoint { return f.endpoints }

func (f *fakeHost) Observe(
	ctx context.Context, endpoints []driver.Endpoint, s api.Source,
) map[driver.EndpointID]inspect.Observation {
	_, f.hasDeadline = ctx.Deadline()
	f.source, f.wanted = s, nil
	for _, e := range endpoints {
		f.wanted = append(f.wanted, e.ID)
	}
	if f.meanwhile != nil {
		f.meanwhile()
	}
	return maps.Clone(f.observed)
}

func (f *fakeHost) Examine(ctx context.Context, e driver.Endpoint) inspect.Examination {
	return inspect.Examination{Observation: f.Observe(ctx, []driver.Endpoint{e}, api.Nsproc)[e.ID]}
}

// Listen hears nothing: tests of captures are in capture and integration.
func (f *fakeHost) Listen(ctx context.Context, _ driver.Endpoint, _ string) ([]capture.Link, []string, error) {
	_, f.hasDeadline = ctx.Deadline()
	if f.listen != nil {
		f.listen(ctx)
	}
	return nil, []string{"nobody listens"}, ctx.Err()
}

// fakeNames are names as Docker's API would have them.
type fakeNames struct {
	networks   map[string]string
	containers map[string][2]string // id and name, by endpoint
	refresh    func()               // if set, called by Refresh
}

func (f fakeNames) Refresh(context.Context) {
	if f.refresh != nil {
		f.refresh()
	}
}

func (f fakeNames) NetworkName(id string) string { return f.networks[id] }

func (f fakeNames) Container(endpoint string) (string, string) {
	c := f.containers[endpoint]
	return c[0], c[1]
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

// web returns an endpoint that is up, on the network app, as the kernel should have it.
func web() (driver.Network, driver.Endpoint, inspect.Observation) {
	n := driver.Network{
		Definition: driver.Definition{
			ID: driver.NetworkID(id("aaaa1")), MTU: 1500, Multicast: true, Cluster: "shop", VNI: 65536,
			Pools: []driver.Pool{
				{Subnet: netip.MustParsePrefix("10.32.0.0/22"), Space: "local"},
				{
					Subnet: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1"),
					Space: "local",
				},
			},
		},
		Local: driver.Local{Bridge: "wv-aaaa10000000", Created: day},
	}
	e := driver.Endpoint{
		ID: driver.EndpointID(id("eeee1")), Network: n.ID, HostEnd: "wve-eeee1000000",
		MAC:       mac.MustParse("02:00:00:00:00:01"),
		Addresses: prefixes("10.32.0.2/22", "fd00:1::2/64"), Sandbox: "/var/run/docker/netns/0123456789ab",
		Created: day,
	}
	e = inState(e, driver.Up)
	o := inspect.Observation{
		Source: api.Kernel,
		Bridge: n.Bridge,
		Host:   &netstate.Link{Index: 7, Name: e.HostEnd, Kind: "veth", Up: true, Carrier: true},
		Inside: &netstate.Link{
			Index: 6, Name: "eth0", Kind: "veth", MAC: mac.MustParse("02:00:00:00:00:01"), MTU: 1500,
			Up: true, Carrier: true, Peer: 7,
			Addresses: append(e.Addresses[:2:2], netip.MustParsePrefix("fe80::ff:fe00:1/64")),
		},
	}
	return n, e, o
}

// inState returns e in the state s. An endpoint that is only created has no sandbox.
func inState(e driver.Endpoint, s driver.EndpointState) driver.Endpoint {
	e.Carrier = s == driver.Up
	if s == driver.Created {
		e.Sandbox = ""
	}
	return e
}

// twoNetworks returns a host with two networks and four endpoints, and the names of most of them.
func twoNetworks() (*fakeHost, fakeNames) {
	app, web1, seen := web()
	db := driver.Network{
		Definition: driver.Definition{ID: driver.NetworkID(id("aaaa2")), MTU: 9000, Internal: true},
		Local:      driver.Local{Bridge: "br-db", Foreign: true, Created: day},
	}
	web2, created, onDB := inState(web1, driver.Joined), inState(web1, driver.Created), web1
	web2.ID, web2.HostEnd, web2.Addresses = driver.EndpointID(id("eeee2")), "wve-eeee2000000", prefixes("10.32.0.10/22")
	created.ID, created.HostEnd, created.Addresses = driver.EndpointID(id("eeee3")), "wve-eeee3000000", nil
	onDB.ID, onDB.HostEnd, onDB.Addresses = driver.EndpointID(id("eeee4")), "wve-eeee4000000", prefixes("10.32.8.2/24")
	onDB.Network = db.ID
	t := &fakeHost{
		networks:  []driver.Network{db, app},
		endpoints: []driver.Endpoint{onDB, web2, created, web1},
		observed:  map[driver.EndpointID]inspect.Observation{web1.ID: seen},
	}
	return t, fakeNames{
		networks: map[string]string{string(app.ID): "app", string(db.ID): "db"},
		containers: map[string][2]string{
			string(web1.ID): {id("cccc1"), "web"},
			string(web2.ID): {id("cccc2"), "cccc1"}, // a name that is also the beginning of another's id
			string(onDB.ID): {id("cccc1"), "web"},
		},
	}
}
