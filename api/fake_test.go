package api

import (
	"context"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

var day = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// id makes an id as long as Docker's.
func id(begin string) string { return begin + strings.Repeat("0", 64-len(begin)) }

// fakeTracker plays the driver.
type fakeTracker struct {
	networks  []driver.Network
	endpoints []driver.Endpoint
	observed  map[driver.EndpointID]driver.Observation

	meanwhile func() // if set, called by Observe

	asked  []driver.EndpointID // by the last Observe
	source driver.Source       // of the last Observe
	bound  bool                // the last Observe had a deadline
}

func (f *fakeTracker) Networks() []driver.Network   { return f.networks }
func (f *fakeTracker) Endpoints() []driver.Endpoint { return f.endpoints }

func (f *fakeTracker) Observe(ctx context.Context, endpoints []driver.Endpoint, s driver.Source) map[driver.EndpointID]driver.Observation {
	_, f.bound = ctx.Deadline()
	f.source, f.asked = s, nil
	for _, e := range endpoints {
		f.asked = append(f.asked, e.ID)
	}
	if f.meanwhile != nil {
		f.meanwhile()
	}
	return maps.Clone(f.observed)
}

// fakeNames plays Docker's names.
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

// web is an endpoint that is up, on the network app, as the kernel should have it.
func web() (driver.Network, driver.Endpoint, driver.Observation) {
	n := driver.Network{
		ID: driver.NetworkID(id("aaaa1")), Bridge: "wv-aaaa10000000", MTU: 1500, Multicast: true, Created: day,
		Pools: []driver.Pool{
			{Subnet: netip.MustParsePrefix("10.32.0.0/22"), Space: "local"},
			{Subnet: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1"), Space: "local"},
		},
	}
	e := driver.Endpoint{
		ID: driver.EndpointID(id("eeee1")), Network: n.ID, HostEnd: "wve-eeee1000000", MAC: "02:00:00:00:00:01",
		Addresses: prefixes("10.32.0.2/22", "fd00:1::2/64"), Sandbox: "/var/run/docker/netns/0123456789ab",
		State: driver.Up, Created: day,
	}
	o := driver.Observation{
		Source: driver.Kernel,
		Bridge: n.Bridge,
		Host:   &netstate.Link{Index: 7, Name: e.HostEnd, Kind: "veth", Up: true, Carrier: true},
		Inside: &netstate.Link{
			Index: 6, Name: "eth0", Kind: "veth", MAC: mac.MustParse(e.MAC), MTU: 1500, Up: true, Carrier: true, Peer: 7,
			Addresses: append(e.Addresses[:2:2], netip.MustParsePrefix("fe80::ff:fe00:1/64")),
		},
	}
	return n, e, o
}

// town is a tracker with two networks and four endpoints, and the names of most of them.
func town() (*fakeTracker, fakeNames) {
	app, web1, seen := web()
	db := driver.Network{ID: driver.NetworkID(id("aaaa2")), Bridge: "br-db", Foreign: true, MTU: 9000, Internal: true, Created: day}
	web2, made, onDB := web1, web1, web1
	web2.ID, web2.State, web2.Addresses, web2.HostEnd = driver.EndpointID(id("eeee2")), driver.Joined, prefixes("10.32.0.10/22"), "wve-eeee2000000"
	made.ID, made.State, made.Sandbox, made.Addresses, made.HostEnd = driver.EndpointID(id("eeee3")), driver.Created, "", nil, "wve-eeee3000000"
	onDB.ID, onDB.Network, onDB.Addresses, onDB.HostEnd = driver.EndpointID(id("eeee4")), db.ID, prefixes("10.32.8.2/24"), "wve-eeee4000000"
	t := &fakeTracker{
		networks:  []driver.Network{db, app},
		endpoints: []driver.Endpoint{onDB, web2, made, web1},
		observed:  map[driver.EndpointID]driver.Observation{web1.ID: seen},
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
