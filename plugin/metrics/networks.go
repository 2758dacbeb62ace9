// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

const (
	// maxNetworks is how many networks have metrics of their own, the oldest ones; the others share otherNetworks.
	maxNetworks   = 1024
	otherNetworks = "other"
	// listTime bounds the listing of the host's links.
	listTime = 5 * time.Second
)

// Sources are what networks, endpoints and addresses are read from. None may wait for long.
type Sources struct {
	Networks  func() []driver.Network
	Endpoints func() []driver.Endpoint
	Pools     func() []ipam.Pool
	Links     func(context.Context) (*netstate.Snapshot, error) // those of the host, with their counters
	Name      func(network string) string                       // Docker's; empty: not known. Optional
}

// Measure has m tell of networks, too. It is called once at most.
func (m *Metrics) Measure(s Sources) {
	if s.Name == nil {
		s.Name = func(string) string { return "" }
	}
	m.registry.MustRegister(&networks{sources: s, started: m.started})
}

// networks collects the metrics of networks.
type networks struct {
	sources Sources
	started time.Time

	mu       sync.Mutex // held for a whole scrape
	counted  map[driver.EndpointID]counted
	traffic  map[string]netstate.Counters // since weave started, by label
	ports    map[string]int               // of bridges, as they were listed last, by label
	failures int                          // of listings
}

// counted is what a host end had counted at the last scrape. A host end that is made again counts from zero.
type counted struct {
	index    int
	counters netstate.Counters
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("weave_"+name, help, labels, nil)
}

var (
	networkCount = describe("networks", "Networks that weave tracks on this host.")
	endpoints    = describe("endpoints",
		"Endpoints of containers on this host, by their state: created, joined or up.", "state")
	poolSize = describe("pool_addresses",
		"Addresses that the subnets of weave's IPAM have for containers of this host, held ones among them.",
		"network", "family")
	poolUsed = describe("pool_addresses_used", "Addresses of these that are held.", "network", "family")
	portsMax = describe("bridge_ports_limit", "Ports that a bridge can have.")
	ports    = describe("bridge_ports_used", "Ports of the network's bridge, those that are not weave's among them.",
		"network")
	linkFailures = describe("link_listing_failures_total",
		"Scrapes for which the host's links could not be listed: traffic and ports are then those of an earlier one.")
)

// direction is what links count of the packets that go one way, as containers see it.
type direction struct {
	bytes, packets, dropped *prometheus.Desc
}

var transmit, receive = describeDirection("transmit", "sent"), describeDirection("receive", "received")

func describeDirection(name, done string) direction {
	return direction{
		bytes: describe("network_"+name+"_bytes_total",
			"Bytes that containers of the network on this host have "+done+" since weave started.", "network"),
		packets: describe("network_"+name+"_packets_total",
			"Packets that these containers have "+done+".", "network"),
		dropped: describe("network_"+name+"_dropped_packets_total",
			"Packets that these containers would have "+done+", and that were dropped.", "network"),
	}
}

// Describe is part of prometheus.Collector.
func (n *networks) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		networkCount, endpoints, poolSize, poolUsed, portsMax, ports, linkFailures,
		transmit.bytes, transmit.packets, transmit.dropped, receive.bytes, receive.packets, receive.dropped,
	} {
		to <- d
	}
}

// Collect is part of prometheus.Collector.
func (n *networks) Collect(to chan<- prometheus.Metric) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all, eps := n.sources.Networks(), n.sources.Endpoints()
	labels := n.labels(all)
	n.look(all, eps, labels)

	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(networkCount, float64(len(all)))
	states := map[driver.EndpointState]int{driver.Created: 0, driver.Joined: 0, driver.Up: 0}
	for _, e := range eps {
		states[e.State()]++
	}
	for state, count := range states {
		gauge(endpoints, float64(count), string(state))
	}
	size, used := n.addresses(all, labels)
	for of, count := range size {
		gauge(poolSize, count, of.network, of.family)
		gauge(poolUsed, used[of], of.network, of.family)
	}
	gauge(portsMax, driver.MaxPorts)
	for label, count := range n.ports {
		gauge(ports, float64(count), label)
	}
	for label, c := range n.traffic { // what a host end receives the container has sent
		counter(transmit.bytes, c.RxBytes, label)
		counter(transmit.packets, c.RxPackets, label)
		counter(transmit.dropped, c.RxDropped, label)
		counter(receive.bytes, c.TxBytes, label)
		counter(receive.packets, c.TxPackets, label)
		counter(receive.dropped, c.TxDropped, label)
	}
	counter(linkFailures, uint64(n.failures))
}

// labels returns what the networks are called: as Docker calls them, or else by their ids. Networks of one name, which
// Docker allows, and those beyond maxNetworks share one.
func (n *networks) labels(all []driver.Network) map[driver.NetworkID]string {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b driver.Network) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	labels := make(map[driver.NetworkID]string, len(sorted))
	for i, nw := range sorted {
		if i >= maxNetworks {
			labels[nw.ID] = otherNetworks
			continue
		}
		labels[nw.ID] = cmp.Or(n.sources.Name(string(nw.ID)), string(nw.ID))
	}
	return labels
}

// pool is what addresses are summed by: those of IPv6 would hide those of IPv4.
type pool struct{ network, family string }

// addresses returns how many addresses there are, and how many of them are held. The network of a pool of which Docker
// has not made the network has no name.
func (n *networks) addresses(
	all []driver.Network, labels map[driver.NetworkID]string,
) (size, used map[pool]float64) {
	type subnet struct{ prefix, space string }
	owners := map[subnet]string{}
	for _, nw := range all {
		for _, p := range nw.Pools {
			owners[subnet{p.Subnet.String(), p.Space}] = labels[nw.ID]
		}
	}
	size, used = map[pool]float64{}, map[pool]float64{}
	for _, p := range n.sources.Pools() {
		of := pool{owners[subnet{p.Subnet.String(), p.Space}], "ipv6"}
		if p.Subnet.Addr().Is4() {
			of.family = "ipv4"
		}
		size[of] += float64(p.Used) + float64(p.Free)
		used[of] += float64(p.Used)
	}
	return size, used
}

// look lists the host's links, counts the ports of the bridges, and adds what host ends have counted since the last
// time. A listing that fails leaves everything as it was.
func (n *networks) look(all []driver.Network, eps []driver.Endpoint, labels map[driver.NetworkID]string) {
	ctx, cancel := context.WithTimeout(context.Background(), listTime)
	defer cancel()
	host, err := n.sources.Links(ctx)
	if err != nil {
		n.failures++
		return
	}
	byName := make(map[string]netstate.Link, len(host.Links))
	slaves := map[int]int{} // by the index of their bridge
	for _, l := range host.Links {
		byName[l.Name] = l
		slaves[l.Master]++
	}
	n.ports = map[string]int{}
	traffic := map[string]netstate.Counters{}
	for _, nw := range all {
		label := labels[nw.ID]
		traffic[label] = n.traffic[label]
		if bridge, ok := byName[nw.Bridge]; ok {
			n.ports[label] += slaves[bridge.Index]
		}
	}
	n.traffic = traffic
	seen := make(map[driver.EndpointID]counted, len(eps))
	for _, e := range eps {
		before, known := n.counted[e.ID]
		label, named := labels[e.Network]
		link, ok := byName[e.HostEnd]
		switch {
		case !ok || link.Counters == nil || !named:
			if known {
				seen[e.ID] = before
			}
			continue
		case known && before.index != link.Index:
			before = counted{}
		case !known && e.Created.Before(n.started): // nobody knows what of that was since
			before.counters = *link.Counters
		}
		n.traffic[label] = plus(n.traffic[label], since(*link.Counters, before.counters))
		seen[e.ID] = counted{link.Index, *link.Counters}
	}
	n.counted = seen
}

// plus adds what the metrics tell of.
func plus(a, b netstate.Counters) netstate.Counters {
	return netstate.Counters{
		RxPackets: a.RxPackets + b.RxPackets, RxBytes: a.RxBytes + b.RxBytes, RxDropped: a.RxDropped + b.RxDropped,
		TxPackets: a.TxPackets + b.TxPackets, TxBytes: a.TxBytes + b.TxBytes, TxDropped: a.TxDropped + b.TxDropped,
	}
}

// since returns what was counted between two looks.
func since(now, before netstate.Counters) netstate.Counters {
	less := func(now, before uint64) uint64 {
		if now < before { // counted anew
			return now
		}
		return now - before
	}
	return netstate.Counters{
		RxPackets: less(now.RxPackets, before.RxPackets), RxBytes: less(now.RxBytes, before.RxBytes),
		RxDropped: less(now.RxDropped, before.RxDropped), TxPackets: less(now.TxPackets, before.TxPackets),
		TxBytes: less(now.TxBytes, before.TxBytes), TxDropped: less(now.TxDropped, before.TxDropped),
	}
}
