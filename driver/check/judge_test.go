// SPDX-License-Identifier: Apache-2.0

package check

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// healthy returns what is found where web reaches port 80 of db.
func healthy() facts {
	network := driver.Network{
		Definition: driver.Definition{ID: "n1", MTU: 1500, Pools: []driver.Pool{
			{Subnet: netip.MustParsePrefix("10.32.0.0/22")},
		}},
		Local: driver.Local{Bridge: "wv-1"},
	}
	end := func(name, address string, number byte) (End, inspect.Examination) {
		prefix := netip.MustParsePrefix(address)
		ep := driver.Endpoint{
			ID: driver.EndpointID(name), Network: "n1", HostEnd: "wve-" + name, MAC: mac.Address{0: 2, 5: number},
			Addresses: []netip.Prefix{prefix}, Sandbox: "/var/run/docker/netns/" + name, Carrier: true,
		}
		inside := netstate.Link{
			Index: 6, Name: "eth0", Kind: "veth", MAC: ep.MAC, MTU: 1500, Up: true, Carrier: true, Peer: 7,
			Addresses: ep.Addresses,
		}
		host := netstate.Link{
			Index: 7, Name: ep.HostEnd, Kind: "veth", Up: true, Carrier: true, PortState: "forwarding", Peer: 6,
		}
		return End{name, network, ep}, inspect.Examination{
			Observation: inspect.Observation{Bridge: "wv-1", Host: &host, Inside: &inside},
			Sandbox: &netstate.Snapshot{
				Links: []netstate.Link{{Index: 1, Name: "lo"}, inside},
				Routes: []netstate.Route{
					{
						Destination: netip.MustParsePrefix("0.0.0.0/0"),
						Gateway:     netip.MustParseAddr("10.32.0.1"), Link: 6,
					},
					{Destination: prefix.Masked(), Link: 6},
				},
				HasSockets: true,
			},
		}
	}
	f := facts{probes: &Probes{Size: 1500}}
	f.Port, f.Address = 80, netip.MustParseAddr("10.32.0.3")
	f.From, f.from = end("web", "10.32.0.2/22", 2)
	to, x := end("db", "10.32.0.3/22", 3)
	f.To, f.to = &to, x
	f.from.Sandbox.Neighbours = []netstate.Neighbour{
		{Address: f.Address, MAC: to.Endpoint.MAC, Link: 6, State: "reachable"},
	}
	f.to.Sandbox.Sockets = []netstate.Socket{{Protocol: "tcp", Local: netip.MustParseAddrPort("0.0.0.0:80")}}
	return f
}

// silent has no probe be answered.
func silent(f *facts) {
	f.probes.Small, f.probes.Full, f.probes.TCP = errNoAnswer, errNoAnswer, errNoAnswer
}

// TestJudge is the table of faults: what is found, and which layer is named.
func TestJudge(t *testing.T) {
	for name, tc := range map[string]struct {
		change   func(*facts)
		failed   api.CheckLayer
		evidence string // of the layer that fails
	}{
		"nothing":          {func(*facts) {}, "", ""},
		"without a port":   {func(f *facts) { f.Port = 0 }, "", ""},
		"an address alone": {func(f *facts) { f.To = nil; f.to = inspect.Examination{} }, "", ""},
		"it answers no ping, which is its own business": {func(f *facts) {
			f.probes.Small, f.probes.Full = errNoAnswer, errNoAnswer
		}, "", ""},
		"the sender does not run": {func(f *facts) { f.From.Endpoint.Sandbox = "" }, api.LayerFrom, "web does not run"},
		"the sender's link is down": {func(f *facts) { f.from.Inside.Up = false; silent(f) },
			api.LayerFrom, "web: eth0 down"},
		"its address is gone": {func(f *facts) { f.from.Inside.Addresses = nil; silent(f) },
			api.LayerFrom, "address 10.32.0.2/22 missing"},
		"its port is isolated": {func(f *facts) { f.from.Host.Isolated = true; silent(f) },
			api.LayerFrom, "host end wve-web isolated"},
		"it has no route": {func(f *facts) { f.from.Sandbox.Routes = nil; silent(f) },
			api.LayerRoute, "web has no route to 10.32.0.3"},
		"another route wins": {func(f *facts) {
			f.from.Sandbox.Routes = append(f.from.Sandbox.Routes,
				netstate.Route{Destination: netip.MustParsePrefix("10.32.0.3/32"), Link: 1})
			silent(f)
		}, api.LayerRoute, "out of lo, not of eth0"},
		"the subnet's route is gone": {func(f *facts) {
			f.from.Sandbox.Routes = f.from.Sandbox.Routes[:1]
			silent(f)
		}, api.LayerRoute, "by the gateway 10.32.0.1"},
		"the receiver's link is missing": {func(f *facts) { f.to.Inside = nil; silent(f) },
			api.LayerTo, "db: container end missing"},
		"nobody answers ARP": {func(f *facts) {
			f.from.Sandbox.Neighbours[0].MAC = mac.Address{}
			silent(f)
		}, api.LayerNeighbour, "nobody answers"},
		"somebody else answers": {func(f *facts) {
			f.from.Sandbox.Neighbours[0].MAC = mac.Address{0: 2, 5: 9}
			silent(f)
		}, api.LayerNeighbour, "is at 02:00:00:00:00:09 for web, but db has 02:00:00:00:00:03"},
		"a rule drops": {func(f *facts) {
			f.dropped = []firewall.Rule{{Table: "nft ip filter DOCKER-USER", Text: "-j DROP"}}
			silent(f)
		}, api.LayerFirewall, "nft ip filter DOCKER-USER: -j DROP"},
		"a rule drops what is not ours": {func(f *facts) {
			f.dropped = []firewall.Rule{{Table: "nft ip filter INPUT", Text: "-j DROP"}}
		}, "", ""},
		"nobody listens": {func(f *facts) { f.to.Sandbox.Sockets = nil; f.probes.TCP = unix.ECONNREFUSED },
			api.LayerListener, "nobody listens at port 80 in db"},
		"it listens at another port": {func(f *facts) {
			f.to.Sandbox.Sockets[0].Local = netip.MustParseAddrPort("0.0.0.0:8080")
			f.probes.TCP = unix.ECONNREFUSED
		}, api.LayerListener, "nobody listens at port 80 in db"},
		"it listens at UDP": {func(f *facts) {
			f.to.Sandbox.Sockets[0].Protocol, f.probes.TCP = "udp", unix.ECONNREFUSED
		}, api.LayerListener, "nobody listens"},
		"it listens at 127.0.0.1 only": {func(f *facts) {
			f.to.Sandbox.Sockets[0].Local = netip.MustParseAddrPort("127.0.0.1:80")
			f.probes.TCP = unix.ECONNREFUSED
		}, api.LayerListener, "port 80 of 127.0.0.1 only"},
		"it listens at all addresses by IPv6": {func(f *facts) {
			f.to.Sandbox.Sockets[0].Local = netip.MustParseAddrPort("[::]:80")
		}, "", ""},
		"the program is stuck": {func(f *facts) { f.to.Sandbox.Sockets[0].Queued = 129; f.probes.TCP = errNoAnswer },
			api.LayerListener, "129 connections wait"},
		"a firewall in the container refuses": {func(f *facts) { f.probes.TCP = unix.ECONNREFUSED },
			api.LayerConnection, "refuses the connection"},
		"nothing is known but that there is no answer": {func(f *facts) { silent(f) },
			api.LayerConnection, "no answer"},
		"no ping, and no port was named": {func(f *facts) { f.Port = 0; silent(f) },
			api.LayerConnection, "a ping to 10.32.0.3: no answer"},
		"large packets don't pass": {func(f *facts) { f.probes.Full = errNoAnswer; f.to.Inside.MTU = 1400 },
			api.LayerSize, "packets of 1500 bytes get no answer, small ones do"},
		"a small MTU inside": {func(f *facts) { f.probes.Full = unix.EMSGSIZE }, api.LayerSize, "message too long"},
	} {
		t.Run(name, func(t *testing.T) {
			f := healthy()
			tc.change(&f)
			r := judge(f)
			if r.Failed != tc.failed {
				t.Fatalf("failed %q, want %q: %+v", r.Failed, tc.failed, r.Layers)
			}
			for _, l := range r.Layers {
				if l.Evidence == "" || (l.Advice != "") != (l.Result == api.CheckFailed) {
					t.Errorf("%s %s: evidence %q, advice %q", l.Layer, l.Result, l.Evidence, l.Advice)
				}
				if l.Layer == r.Failed && !strings.Contains(l.Evidence, tc.evidence) {
					t.Errorf("evidence %q, want %q", l.Evidence, tc.evidence)
				}
			}
		})
	}
}

// What can't be looked at is unknown, and no reason to blame a layer.
func TestUnknown(t *testing.T) {
	f := healthy()
	f.probes, f.unprobed = nil, errors.New("no nsproc")
	f.from.Sandbox, f.to.Sandbox = nil, nil
	if r := judge(f); r.Failed != "" {
		t.Errorf("failed %q: %+v", r.Failed, r.Layers)
	}
}

func TestRisen(t *testing.T) {
	rule := func(text string, packets uint64) firewall.Rule {
		return firewall.Rule{Table: "t", Text: text, Counted: true, Packets: packets}
	}
	uncounted := firewall.Rule{Table: "t", Text: "d", Packets: 9}
	got := risen([]firewall.Rule{rule("a", 1), rule("b", 2), uncounted},
		[]firewall.Rule{rule("a", 1), rule("b", 3), rule("new", 5), uncounted})
	if len(got) != 1 || got[0].Text != "b" {
		t.Errorf("got %+v, want b", got)
	}
}
