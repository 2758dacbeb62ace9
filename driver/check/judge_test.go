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
	"github.com/weaveplugin/weave/driver/check/drops"
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
			Port:        host.Name,
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
	f.to.Sandbox.Neighbours = []netstate.Neighbour{
		{Address: netip.MustParseAddr("10.32.0.2"), MAC: f.From.Endpoint.MAC, Link: 6, State: "reachable"},
	}
	f.Name, f.Own, f.resolved = "db", []netip.Addr{f.Address}, answer{addresses: []netip.Addr{f.Address}}
	f.to.Sandbox.Sockets = []netstate.Socket{{Protocol: "tcp", Local: netip.MustParseAddrPort("0.0.0.0:80")}}
	return f
}

// silent has no probe be answered.
func silent(f *facts) {
	f.probes.Small, f.probes.Full, f.probes.TCP = errNoAnswer, errNoAnswer, errNoAnswer
}

// lostAt has no probe be answered: so many sightings, on the way there and back, were the last ones.
func lostAt(f *facts, sightings int) {
	silent(f)
	for k := range f.probes.trails {
		f.probes.trails[k] = seen(sightings)
	}
}

// seen is the trail of a packet that was seen so many times, there and back.
func seen(sightings int) (t trail) {
	for p := range t {
		t[p] = sighting{watched: true, there: p < sightings, back: sightings >= 2*int(places)-p}
	}
	return t
}

func suspect(table, text string) firewall.Suspect {
	return firewall.Suspect{Rule: firewall.Rule{Table: table, Text: text}}
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
		"the name is not known": {func(f *facts) { f.resolved = answer{err: errNoName} },
			api.LayerName, "web finds no address of the name db"},
		"the resolver is gone": {func(f *facts) { f.resolved = answer{err: unix.ECONNREFUSED} },
			api.LayerName, "web can't ask 127.0.0.11:53 for the name db: connection refused"},
		"the name is somebody else's, too": {func(f *facts) {
			f.resolved.addresses = append(f.resolved.addresses, netip.MustParseAddr("10.32.0.9"))
		}, api.LayerName, "web finds db at 10.32.0.9, which db has not"},
		"the name stands for an address on a network that is not weave's": {func(f *facts) {
			f.resolved.addresses = []netip.Addr{netip.MustParseAddr("172.18.0.9")}
		}, "", ""},
		"the name stands for an address on another network": {func(f *facts) {
			other := netip.MustParseAddr("10.99.0.9")
			f.resolved.addresses, f.Own = []netip.Addr{other}, append(f.Own, other)
		}, "", ""},
		"the bridge sends to another port": {func(f *facts) { f.to.Port = "wve-other"; lostAt(f, 2) },
			api.LayerBridge, "wv-1 sends frames for db, 02:00:00:00:00:03, to wve-other instead of wve-db"},
		"it sends answers to another port": {func(f *facts) { f.from.Port = "wve-other"; lostAt(f, 6) },
			api.LayerBridge, "wv-1 sends frames for web"},
		"the bridge knows no port, and floods": {func(f *facts) { f.to.Port, f.from.Port = "", "" }, "", ""},
		"lost in the host without a rule": {func(f *facts) { lostAt(f, 2) },
			api.LayerBridge, "packets of web for db come to wv-1 and don't leave it"},
		"answers lost in the host without a rule": {func(f *facts) { lostAt(f, 6) },
			api.LayerBridge, "the answers of db come to wv-1 and don't leave it"},
		"a rule drops": {func(f *facts) {
			f.risen = []firewall.Suspect{suspect("nft ip filter MINE", "-j DROP")}
			silent(f)
		}, api.LayerFirewall, "dropped or refused packets while the probes were sent: nft ip filter MINE: -j DROP"},
		"a rule refuses": {func(f *facts) {
			f.risen = []firewall.Suspect{suspect("nft ip filter DOCKER-USER", "-j REJECT")}
			f.probes.trails[kindConnect] = seen(2)
			f.probes.TCP = unix.ECONNREFUSED
		}, api.LayerFirewall, "nft ip filter DOCKER-USER: -j REJECT"},
		"a rule that is not known refuses": {func(f *facts) {
			f.rulesError = errors.New("no permission")
			f.probes.trails[kindConnect] = seen(2)
			f.probes.TCP = unix.ECONNREFUSED
		}, api.LayerConnection, "connection refused: packets of web for db came to the host and did not leave it"},
		"no way out of an internal network": {func(f *facts) {
			f.To, f.to = nil, inspect.Examination{}
			f.From.Network.Internal, f.from.Sandbox.Routes = true, nil
			f.Name, f.Address = "", netip.MustParseAddr("192.0.2.1")
		}, api.LayerRoute, "web has no route to 192.0.2.1"},
		"a rule rewrites": {func(f *facts) {
			f.risen = []firewall.Suspect{suspect("nft ip nat PREROUTING", "-j DNAT")}
			f.risen[0].Rewrites = true
			lostAt(f, 2)
		}, api.LayerFirewall, "rewrote packets while the probes were sent: nft ip nat PREROUTING: -j DNAT"},
		"a rule that does not count": {func(f *facts) {
			f.silent = []firewall.Suspect{
				suspect("a", "1"), suspect("b", "2"), suspect("c", "3"), suspect("d", "4"), suspect("e", "5"),
			}
			lostAt(f, 2)
		}, api.LayerFirewall, "it has rules that don't count what they match: a: 1; b: 2; c: 3; and 2 more"},
		"a rule that does not count drops answers": {func(f *facts) {
			f.silent = []firewall.Suspect{suspect("a", "1")}
			lostAt(f, 6)
		}, api.LayerFirewall, "the answers of db come to the host"},
		"lost in the host, whose rules can't be read": {func(f *facts) {
			f.rulesError = errors.New("no permission")
			lostAt(f, 2)
		}, api.LayerConnection, "no answer in time: packets of web for db came to the host and did not leave it"},
		"a rule drops others' packets, as the kernel says": {func(f *facts) {
			f.risen = []firewall.Suspect{suspect("nft ip filter FORWARD", "-j DROP")}
			f.watched = true
			silent(f)
		}, api.LayerConnection, "no answer in time"},
		"a rule drops these, as the kernel says": {func(f *facts) {
			f.risen = []firewall.Suspect{suspect("nft ip filter FORWARD", "-j DROP")}
			f.watched, f.namespaces.host = true, 1
			f.drops = []drops.Drop{{Reason: netfilterDrop, Protocol: "tcp", NetNS: 1}}
			silent(f)
		}, api.LayerFirewall, "-j DROP"},
		"a rule drops what is not ours": {func(f *facts) {
			f.risen = []firewall.Suspect{suspect("nft ip filter INPUT", "-j DROP")}
		}, "", ""},
		"a rule drops something else meanwhile": {func(f *facts) {
			f.risen = []firewall.Suspect{suspect("nft ip filter FORWARD", "-j DROP")}
			lostAt(f, 4)
		}, api.LayerConnection, "came to the link in db, which dropped them without an answer"},
		"the receiver has no route back": {func(f *facts) { f.to.Sandbox.Routes = nil; lostAt(f, 4) },
			api.LayerBack, "db has no route to 10.32.0.2"},
		"the receiver's answers take another way": {func(f *facts) {
			f.to.Sandbox.Routes = append(f.to.Sandbox.Routes,
				netstate.Route{Destination: netip.MustParsePrefix("10.32.0.2/32"), Link: 1})
			lostAt(f, 4)
		}, api.LayerBack, "db sends to 10.32.0.2 out of lo, not of eth0"},
		"the receiver's neighbour is stale": {func(f *facts) {
			f.to.Sandbox.Neighbours[0].MAC = mac.Address{0: 2, 5: 9}
			lostAt(f, 8)
		}, api.LayerBack, "10.32.0.2 is at 02:00:00:00:00:09 for db, but web has 02:00:00:00:00:02"},
		"the sender gets no answer to its ARP, but that is the way back's business": {func(f *facts) {
			f.to.Sandbox.Routes = nil
		}, "", ""},
		"lost between the sender's ends": {func(f *facts) { lostAt(f, 1) },
			api.LayerConnection, "packets of web for db got lost between web's two ends"},
		"lost between the receiver's ends": {func(f *facts) { lostAt(f, 3) },
			api.LayerConnection, "packets of web for db got lost between db's two ends"},
		"answers lost between the receiver's ends": {func(f *facts) { lostAt(f, 5) },
			api.LayerConnection, "the answers of db got lost between db's two ends"},
		"answers lost between the sender's ends": {func(f *facts) { lostAt(f, 7) },
			api.LayerConnection, "the answers of db got lost between web's two ends"},
		"the sender drops the answers": {func(f *facts) { lostAt(f, 8) },
			api.LayerConnection, "the answers of db came to the link in web, which dropped them"},
		"answers of an address beyond don't come in": {func(f *facts) {
			f.To, f.to = nil, inspect.Examination{}
			lostAt(f, 7)
			for k := range f.probes.trails {
				f.probes.trails[k][toHost], f.probes.trails[k][toInside] = sighting{}, sighting{}
			}
		}, api.LayerConnection, "the answers of 10.32.0.3 got lost between web's two ends"},
		"the sender drops the answers of an address beyond": {func(f *facts) {
			f.To, f.to = nil, inspect.Examination{}
			lostAt(f, 8)
			for k := range f.probes.trails {
				f.probes.trails[k][toHost], f.probes.trails[k][toInside] = sighting{}, sighting{}
			}
		}, api.LayerConnection, "the answers of 10.32.0.3 came to the link in web, which dropped them"},
		"an address beyond does not answer": {func(f *facts) {
			f.To, f.to = nil, inspect.Examination{}
			lostAt(f, 2)
			for k := range f.probes.trails {
				f.probes.trails[k][toHost], f.probes.trails[k][toInside] = sighting{}, sighting{}
			}
		}, api.LayerConnection, "packets of web for 10.32.0.3 left wve-web, and nothing came back"},
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
		"a firewall in the container refuses": {func(f *facts) {
			f.probes.TCP = unix.ECONNREFUSED
			f.probes.trails[kindConnect] = seen(8)
		},
			api.LayerConnection, "refuses the connection"},
		"nothing is known but that there is no answer": {func(f *facts) { silent(f) },
			api.LayerConnection, "no answer"},
		"no ping, and no port was named": {func(f *facts) { f.Port = 0; silent(f) },
			api.LayerConnection, "a ping to 10.32.0.3: no answer"},
		"large packets don't pass": {func(f *facts) { f.probes.Full = errNoAnswer; f.to.Inside.MTU = 1400 },
			api.LayerSize, "packets of 1500 bytes get no answer, small ones do"},
		"large packets get lost at the receiver": {func(f *facts) {
			f.probes.Full = errNoAnswer
			f.probes.trails[kindFull] = seen(3)
		}, api.LayerSize, "small ones do: no answer in time: packets of web for db got lost between db's two ends"},
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
	rule := func(text string, packets uint64) firewall.Suspect {
		return firewall.Suspect{Rule: firewall.Rule{Table: "t", Text: text, Counted: true, Packets: packets}}
	}
	silent := suspect("t", "d")
	before := []firewall.Suspect{rule("a", 1), rule("b", 2), silent, rule("twice", 9), rule("twice", 3)}
	got := risen(before, []firewall.Suspect{
		rule("a", 1), rule("b", 3), rule("new", 5), silent, rule("twice", 9), rule("twice", 4),
	})
	if len(got) != 2 || got[0].Text != "b" || got[1].Packets != 4 {
		t.Errorf("got %+v, want b and the second one that reads the same", got)
	}
	if got := risen(before, before); len(got) > 0 {
		t.Errorf("got %+v, but nothing has changed", got)
	}
}

// TestPasses: of the host's rules only those matter that see the packets.
func TestPasses(t *testing.T) {
	between := healthy().Question
	tagged := between
	tagged.From.Network.Tagged = true
	outside := tagged
	outside.To = nil
	for name, tc := range map[string]struct {
		q      Question
		rule   firewall.Suspect
		passes bool
	}{
		"between containers":                         {between, firewall.Suspect{}, false},
		"of the host":                                {between, firewall.Suspect{OfHost: true}, true},
		"of the host, to the host":                   {outside, firewall.Suspect{OfHost: true}, false},
		"tagged frames":                              {tagged, firewall.Suspect{}, true},
		"tagged frames, of the bridge":               {tagged, firewall.Suspect{OfLink: true}, false},
		"tagged frames, from the bridge to a router": {outside, firewall.Suspect{}, false},
	} {
		if got := tc.q.passes(tc.rule); got != tc.passes {
			t.Errorf("%s: passes %t, want %t", name, got, tc.passes)
		}
	}
}
