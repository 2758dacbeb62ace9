// SPDX-License-Identifier: Apache-2.0

package page

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/api/server"
	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/check"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/events"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// perNetwork is how many containers a network of fakeHost has.
const perNetwork = 50

// fakeHost is a host with many containers, as the API's server sees it.
type fakeHost struct {
	events *events.Log

	mu        sync.Mutex
	networks  []driver.Network
	endpoints []driver.Endpoint
	names     map[string]string // of containers, by endpoint
	missing   map[driver.EndpointID]bool
	sent      uint64 // bytes, by each container
}

func id(kind string, n int) string { return fmt.Sprintf("%s%060x", kind, n+0x1000) }

var networkNames = []string{"frontend", "backend", "metrics", "queue", "cache", "db", "mail", "search", "batch", "auth"}

// newHost returns a host with so many endpoints. Each tenth container is on two networks, and the address of the
// seventh is missing.
func newHost(count int) *fakeHost {
	h := &fakeHost{events: events.New(), names: map[string]string{}, missing: map[driver.EndpointID]bool{}}
	for i := range count {
		if i%perNetwork == 0 {
			h.addNetwork(i / perNetwork)
		}
		h.add(i, fmt.Sprintf("%s-%d", networkNames[i/perNetwork%len(networkNames)], i%perNetwork+1))
	}
	if count > 6 {
		h.missing[h.endpoints[6].ID] = true
	}
	return h
}

func (h *fakeHost) addNetwork(n int) {
	h.networks = append(h.networks, driver.Network{
		Definition: driver.Definition{
			ID: driver.NetworkID(id("aaaa", n)), MTU: 1500, Internal: n%4 == 3,
			Pools: []driver.Pool{{Subnet: netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 32+n))}},
		},
		Local: driver.Local{Bridge: fmt.Sprintf("wv-aaaa%08d", n), Created: time.Now()},
	})
}

// add adds the endpoint with number i of a container.
func (h *fakeHost) add(i int, name string) driver.Endpoint {
	n := i / perNetwork
	address := fmt.Sprintf("10.%d.%d.%d/16", 32+n, i%perNetwork/250, i%perNetwork%250+2)
	e := driver.Endpoint{
		ID: driver.EndpointID(id("eeee", i)), Network: driver.NetworkID(id("aaaa", n)),
		HostEnd: fmt.Sprintf("wve-%011d", i), MAC: mac.MustParse(fmt.Sprintf("02:00:00:00:%02x:%02x", i>>8, i&255)),
		Addresses: []netip.Prefix{netip.MustParsePrefix(address)},
		Sandbox:   fmt.Sprintf("/var/run/docker/netns/%012d", i), Carrier: true, Created: time.Now().Add(-time.Hour),
	}
	h.endpoints = append(h.endpoints, e)
	h.names[string(e.ID)] = name
	return e
}

// start has a container begin, after the page has been opened.
func (h *fakeHost) start(i int, name string) {
	h.mu.Lock()
	e := h.add(i, name)
	h.mu.Unlock()
	h.tell(api.Event{Type: api.EndpointEvent, Action: api.ActionUp}, e)
}

// name has the container with number i have a name.
func (h *fakeHost) name(i int, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.names[string(h.endpoints[i].ID)] = name
}

// end has the last container that was started end.
func (h *fakeHost) end() {
	h.mu.Lock()
	last := len(h.endpoints) - 1
	e := h.endpoints[last]
	h.endpoints = h.endpoints[:last]
	h.mu.Unlock()
	h.tell(api.Event{Type: api.EndpointEvent, Action: api.ActionDeleted}, e)
}

func (h *fakeHost) tell(event api.Event, e driver.Endpoint) {
	event.EndpointID, event.NetworkID = string(e.ID), string(e.Network)
	h.events.Add(event)
}

func (h *fakeHost) Networks() []driver.Network {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.networks)
}

func (h *fakeHost) Endpoints() []driver.Endpoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.endpoints)
}

func (h *fakeHost) NetworkName(network string) string {
	for i, n := range h.Networks() {
		if string(n.ID) == network {
			name := networkNames[i%len(networkNames)]
			if i >= len(networkNames) {
				name += fmt.Sprint("-", i/len(networkNames)+1)
			}
			return name
		}
	}
	return ""
}

// Container has each tenth endpoint be one of the container before it in another network.
func (h *fakeHost) Container(endpoint string) (string, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var i int
	_, _ = fmt.Sscanf(strings.TrimPrefix(endpoint, "eeee"), "%x", &i) // the ids are newHost's
	if i -= 0x1000; i%10 == 0 && i >= perNetwork {
		endpoint = id("eeee", i-perNetwork+1)
	}
	return "cccc" + endpoint[4:], h.names[endpoint]
}

func (h *fakeHost) Refresh(context.Context) {}

func (h *fakeHost) Observe(
	_ context.Context, endpoints []driver.Endpoint, _ api.Source,
) map[driver.EndpointID]inspect.Observation {
	h.mu.Lock()
	defer h.mu.Unlock()
	observed := map[driver.EndpointID]inspect.Observation{}
	for _, e := range endpoints {
		addresses := e.Addresses
		if h.missing[e.ID] {
			addresses = nil
		}
		bridge := ""
		for _, n := range h.networks {
			if n.ID == e.Network {
				bridge = n.Bridge
			}
		}
		observed[e.ID] = inspect.Observation{
			Source: api.Kernel, Bridge: bridge, Host: &netstate.Link{Name: e.HostEnd, Up: true, Carrier: true},
			Inside: &netstate.Link{Name: "eth0", MAC: e.MAC, Up: true, Carrier: true, Addresses: addresses},
		}
	}
	return observed
}

func (h *fakeHost) Examine(context.Context, driver.Endpoint) inspect.Examination {
	return inspect.Examination{}
}

func (h *fakeHost) Listen(context.Context, driver.Endpoint, string) ([]capture.Link, []string, error) {
	return nil, nil, nil
}

// links are the host ends, through each of which some more has passed each time that somebody looks.
func (h *fakeHost) links(context.Context) (*netstate.Snapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &netstate.Snapshot{}
	h.sent += 50_000
	for i, e := range h.endpoints {
		s.Links = append(s.Links, netstate.Link{Name: e.HostEnd, Up: true, Carrier: true, Counters: &netstate.Counters{
			RxBytes: h.sent * uint64(i%7), TxBytes: h.sent * uint64(i%5) * 10, TxDropped: uint64(i % 3),
		}})
	}
	return s, nil
}

// Check finds that the firewall drops, and nothing else.
func (h *fakeHost) Check(_ context.Context, q check.Question) check.Result {
	r := check.Result{Failed: api.LayerFirewall}
	for _, l := range []api.CheckLayer{
		api.LayerFrom, api.LayerRoute, api.LayerTo, api.LayerNeighbour, api.LayerFirewall, api.LayerListener,
		api.LayerConnection, api.LayerSize,
	} {
		r.Layers = append(r.Layers, api.Checked{Layer: l, Result: api.CheckOK, Evidence: "all is as it should be"})
	}
	r.Layers[4].Result, r.Layers[4].Evidence = api.CheckFailed, "3 packets were dropped by -A FORWARD -j DROP"
	r.Layers[4].Advice = "allow it in DOCKER-USER"
	r.Layers[6].Result, r.Layers[6].Evidence = api.CheckFailed, "no answer from "+q.Address.String()
	r.Layers[7].Result, r.Layers[7].Evidence = api.CheckUnknown, "it answers no ping"
	return r
}

// serve serves the page of a host until t ends, at an address or, if that is empty, at a free one.
func (h *fakeHost) serve(t testing.TB, address string) *httptest.Server {
	t.Helper()
	l, err := net.Listen("tcp4", cmp.Or(address, "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	answers := server.New(server.Options{
		Tracker: h, Inspector: h, Names: h, Events: h.events, Links: h.links, Checker: h,
		Status: func(context.Context) api.Status { return api.Status{Version: "1.0.0"} },
	})
	s := &httptest.Server{
		Listener: l, Config: &http.Server{Handler: New(answers.Public(), http.NotFoundHandler())},
	}
	s.Start()
	t.Cleanup(func() {
		h.events.Close()
		s.CloseClientConnections()
		s.Close()
	})
	return s
}
