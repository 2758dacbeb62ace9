// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// fake is a host that the metrics are read from.
type fake struct {
	networks  []driver.Network
	endpoints []driver.Endpoint
	pools     []ipam.Pool
	links     []netstate.Link
	err       error // of listing the links
	listed    int
	names     map[string]string
}

func (f *fake) sources() Sources {
	return Sources{
		Networks:  func() []driver.Network { return f.networks },
		Endpoints: func() []driver.Endpoint { return f.endpoints },
		Pools:     func() []ipam.Pool { return f.pools },
		Name:      func(id string) string { return f.names[id] },
		Links: func(context.Context) (*netstate.Snapshot, error) {
			f.listed++
			return &netstate.Snapshot{Links: f.links}, f.err
		},
	}
}

// addNetwork adds a network with a bridge.
func (f *fake) addNetwork(id string, index int, pools ...driver.Pool) {
	f.networks = append(f.networks, driver.Network{
		Definition: driver.Definition{ID: driver.NetworkID(id), Pools: pools},
		Local:      driver.Local{Bridge: "wv-" + id, Created: time.Unix(int64(index), 0)},
	})
	f.links = append(f.links, netstate.Link{Index: index, Name: "wv-" + id, Kind: "bridge"})
}

// addEndpoint adds an endpoint that was made before or after the metrics. It returns what its host end has counted.
func (f *fake) addEndpoint(id, network string, index, bridge int, made time.Time) *netstate.Counters {
	f.endpoints = append(f.endpoints, driver.Endpoint{
		ID: driver.EndpointID(id), Network: driver.NetworkID(network), HostEnd: "wve-" + id, Created: made,
	})
	counters := &netstate.Counters{}
	f.links = append(f.links, netstate.Link{
		Index: index, Name: "wve-" + id, Kind: "veth", Master: bridge, Counters: counters,
	})
	return counters
}

// check compares the metrics of these names with what is wanted of them, without help and type.
func check(t *testing.T, m *Metrics, want string, names ...string) {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler(quiet()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, api.PathMetrics, nil))
	var got []string
	for line := range strings.Lines(w.Body.String()) {
		for _, name := range names {
			if strings.HasPrefix(line, name+"{") || strings.HasPrefix(line, name+" ") {
				got = append(got, strings.TrimSpace(line))
			}
		}
	}
	if got := strings.Join(got, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// TestNames: Prometheus has conventions for names, and a tool that checks them.
func TestNames(t *testing.T) {
	f := &fake{}
	f.addNetwork("n", 1, driver.Pool{Subnet: netip.MustParsePrefix("10.0.0.0/24")})
	f.pools = []ipam.Pool{{Subnet: netip.MustParsePrefix("10.0.0.0/24")}}
	m := New("1.0", "abc")
	m.Measure(f.sources())
	m.Call("NetworkDriver.Join", time.Second, nil)
	m.Event(api.Event{Type: api.DriftEvent, Action: api.ActionFound})
	m.Reconciled(driver.Report{})
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "weave_") {
			ours++
		}
	}
	if ours < 20 {
		t.Errorf("%d metrics of weave's were checked, want all", ours)
	}
}

func TestCounts(t *testing.T) {
	m := New("1.0", "abc")
	m.Call("NetworkDriver.Join", 3*time.Millisecond, nil)
	m.Call("NetworkDriver.Join", 2*time.Second, errors.New("no"))
	m.Call("IpamDriver.RequestPool", time.Millisecond, nil)
	m.Nsproc(time.Millisecond, nil)
	m.Nsproc(time.Second, errors.New("no"))
	m.Nsproc(time.Second, errors.New("no"))
	m.Event(api.Event{Type: api.DriftEvent, Action: api.ActionFound, Drift: api.AddressMissing})
	m.Event(api.Event{Type: api.DriftEvent, Action: api.ActionGone, Drift: api.AddressMissing})
	m.Event(api.Event{Type: api.DriftEvent, Action: api.ActionFound})
	m.Event(api.Event{Type: api.RepairEvent, Action: api.ActionDone})
	m.Event(api.Event{Type: api.RepairEvent, Action: api.ActionDone, Cause: &api.Cause{Kind: api.CauseRepair}})
	m.Event(api.Event{Type: api.RepairEvent, Action: api.ActionDone, Cause: &api.Cause{Kind: api.CauseStart}})
	m.Reconciled(driver.Report{Took: 1500 * time.Millisecond, Repaired: []string{"a", "b"}, Removed: []string{"c"}})
	check(t, m, `weave_docker_call_duration_seconds_count{call="IpamDriver.RequestPool",result="failure"} 0
weave_docker_call_duration_seconds_count{call="IpamDriver.RequestPool",result="success"} 1
weave_docker_call_duration_seconds_count{call="NetworkDriver.Join",result="failure"} 1
weave_docker_call_duration_seconds_count{call="NetworkDriver.Join",result="success"} 1
weave_drift_total{action="found",kind="address-missing"} 1
weave_drift_total{action="found",kind="host"} 1
weave_drift_total{action="gone",kind="address-missing"} 1
weave_events_total{action="done",type="repair"} 3
weave_events_total{action="failed",type="error"} 0
weave_events_total{action="found",type="drift"} 2
weave_events_total{action="gone",type="drift"} 1
weave_nsproc_duration_seconds_count{result="failure"} 2
weave_nsproc_duration_seconds_count{result="success"} 1
weave_reconcile_duration_seconds 1.5
weave_reconcile_results{result="problem"} 0
weave_reconcile_results{result="removed"} 1
weave_reconcile_results{result="repaired"} 2
weave_repairs_total 2`,
		"weave_docker_call_duration_seconds_count", "weave_drift_total", "weave_events_total",
		"weave_nsproc_duration_seconds_count", "weave_reconcile_duration_seconds", "weave_reconcile_results",
		"weave_repairs_total")
	check(t, m, `weave_docker_call_duration_seconds_sum{call="NetworkDriver.Join",result="failure"} 2
weave_docker_call_duration_seconds_sum{call="NetworkDriver.Join",result="success"} 0.003`,
		`weave_docker_call_duration_seconds_sum{call="NetworkDriver.Join",result="failure"}`,
		`weave_docker_call_duration_seconds_sum{call="NetworkDriver.Join",result="success"}`)
}

func TestNetworks(t *testing.T) {
	four, six := netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")
	f := &fake{names: map[string]string{"n": "app"}}
	f.addNetwork("n", 1, driver.Pool{Subnet: four, Space: "s"}, driver.Pool{Subnet: six, Space: "s"})
	f.addNetwork("unnamed", 2, driver.Pool{Subnet: four, Space: "docker's"})
	f.pools = []ipam.Pool{
		{Space: "s", Subnet: four, Used: 3, Free: 251}, {Space: "s", Subnet: six, Used: 1, Free: 1 << 63},
		{Space: "s", Subnet: netip.MustParsePrefix("10.0.1.0/24"), Used: 1, Free: 253}, // its network is not made yet
	}
	m := New("", "")
	m.Measure(f.sources())
	f.addEndpoint("a", "n", 10, 1, m.started)
	f.addEndpoint("b", "n", 11, 1, m.started)
	f.addEndpoint("c", "unnamed", 12, 2, m.started)
	f.endpoints[0].Sandbox = "/s"
	f.endpoints[1].Sandbox, f.endpoints[1].Carrier = "/s", true
	f.links = append(f.links, netstate.Link{Index: 13, Name: "eth1", Master: 1}) // a port that is not weave's
	check(t, m, `weave_bridge_ports_limit 1023
weave_bridge_ports_used{network="app"} 3
weave_bridge_ports_used{network="unnamed"} 1
weave_endpoints{state="created"} 1
weave_endpoints{state="joined"} 1
weave_endpoints{state="up"} 1
weave_networks 2
weave_pool_addresses{family="ipv4",network=""} 254
weave_pool_addresses{family="ipv4",network="app"} 254
weave_pool_addresses{family="ipv6",network="app"} 9.223372036854776e+18
weave_pool_addresses_used{family="ipv4",network=""} 1
weave_pool_addresses_used{family="ipv4",network="app"} 3
weave_pool_addresses_used{family="ipv6",network="app"} 1`,
		"weave_bridge_ports_limit", "weave_bridge_ports_used", "weave_endpoints", "weave_networks",
		"weave_pool_addresses", "weave_pool_addresses_used")
	if f.listed != 1 {
		t.Errorf("the links were listed %d times for one scrape", f.listed)
	}
}

// TestTraffic: the sums of the containers' traffic never fall, whatever becomes of the links; what was before weave
// started is in none.
func TestTraffic(t *testing.T) {
	f := &fake{}
	f.addNetwork("n", 1)
	m := New("", "")
	m.Measure(f.sources())
	old := f.addEndpoint("old", "n", 10, 1, m.started.Add(-time.Second))
	fresh := f.addEndpoint("fresh", "n", 11, 1, m.started.Add(time.Second))
	traffic := func(step string, sentBytes, receivedBytes int) {
		t.Helper()
		check(t, m, fmt.Sprintf("weave_network_receive_bytes_total{network=\"n\"} %d\n"+
			"weave_network_transmit_bytes_total{network=\"n\"} %d", receivedBytes, sentBytes),
			"weave_network_receive_bytes_total", "weave_network_transmit_bytes_total")
		if t.Failed() {
			t.Fatal(step)
		}
	}
	old.RxBytes, fresh.RxBytes, fresh.TxBytes = 1000, 5, 50
	traffic("the first time", 5, 50)
	old.RxBytes, fresh.RxBytes = 1001, 7
	traffic("traffic since", 8, 50)
	traffic("nothing since", 8, 50)

	f.err = errors.New("links keep changing")
	fresh.RxBytes++
	traffic("no listing", 8, 50)
	check(t, m, "weave_link_listing_failures_total 2", "weave_link_listing_failures_total")
	f.err = nil
	traffic("listed again", 9, 50)

	f.links[2].Index, fresh.RxBytes, fresh.TxBytes = 20, 30, 0 // made again, with more traffic than before
	traffic("made again", 39, 50)
	f.endpoints, f.links = f.endpoints[1:], append(f.links[:1:1], f.links[2])
	traffic("one has gone", 39, 50)
	fresh.RxBytes, fresh.RxPackets, fresh.RxDropped, fresh.TxPackets, fresh.TxDropped = 31, 2, 3, 4, 5
	traffic("the other goes on", 40, 50)
	check(t, m, `weave_network_receive_dropped_packets_total{network="n"} 5
weave_network_receive_packets_total{network="n"} 4
weave_network_transmit_dropped_packets_total{network="n"} 3
weave_network_transmit_packets_total{network="n"} 2`,
		"weave_network_receive_packets_total", "weave_network_receive_dropped_packets_total",
		"weave_network_transmit_packets_total", "weave_network_transmit_dropped_packets_total")

	fresh.RxBytes = 6 // made again with the same index
	traffic("counted anew", 46, 50)

	f.networks, f.endpoints = nil, nil
	check(t, m, "", "weave_network_transmit_bytes_total") // a network that is gone has no metrics
}

// TestLabelsAreBounded: of more networks than have labels of their own there are sums, as of networks with one name.
func TestLabelsAreBounded(t *testing.T) {
	f := &fake{names: map[string]string{"1": "twice", "2": "twice"}}
	m := New("", "")
	m.Measure(f.sources())
	const extra = 5
	for i := range maxNetworks + extra {
		id := fmt.Sprint(i)
		f.addNetwork(id, i+1)
		f.addEndpoint(id, id, i+10000, i+1, m.started).RxBytes = 1
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if n := len(family.GetMetric()); n > maxNetworks {
			t.Errorf("%s has %d values", family.GetName(), n)
		}
	}
	check(t, m, `weave_network_transmit_bytes_total{network="other"} 5
weave_network_transmit_bytes_total{network="twice"} 2`,
		`weave_network_transmit_bytes_total{network="other"}`, `weave_network_transmit_bytes_total{network="twice"}`)
}
