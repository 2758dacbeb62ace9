// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const testState = "0011223344556677"

// A network and an endpoint of it as they are recorded, for tests to change.
func madeNetwork(changes ...func(*Network)) Network {
	nw := Network{Definition: Definition{ID: netID, MTU: 1500}, Local: Local{Bridge: bridgeName(netID), Phase: Made}}
	for _, change := range changes {
		change(&nw)
	}
	return nw
}

func madeEndpoint(changes ...func(*endpointRecord)) endpointRecord {
	r := endpointRecord{Endpoint{ID: epID, Network: netID, HostEnd: hostEndName(epID)}, Made}
	for _, change := range changes {
		change(&r)
	}
	return r
}

// Links as weave makes them, for tests to change.
func bridgeLink(changes ...func(*netlink.LinkAttrs)) *hostLink {
	a := netlink.LinkAttrs{
		Name: bridgeName(netID), Index: 7, MTU: 1500, Flags: net.FlagUp, Alias: networkAlias(testState, netID).String(),
	}
	for _, change := range changes {
		change(&a)
	}
	return &hostLink{Link: &netlink.Bridge{LinkAttrs: a}, genMode: addrGenNone}
}

func hostEndLink(changes ...func(*netlink.LinkAttrs)) *hostLink {
	a := netlink.LinkAttrs{
		Name: hostEndName(epID), Index: 8, MTU: 1500, MasterIndex: 7, Flags: net.FlagUp,
		Alias: endpointAlias(testState, epID).String(),
	}
	for _, change := range changes {
		change(&a)
	}
	return &hostLink{Link: &netlink.Veth{LinkAttrs: a}, genMode: addrGenNone}
}

func TestPlan(t *testing.T) {
	down := func(a *netlink.LinkAttrs) { a.Flags = 0 }
	noMaster := func(a *netlink.LinkAttrs) { a.MasterIndex = 0 }
	inUse := func(a *netlink.LinkAttrs) { a.RawFlags = unix.IFF_LOWER_UP }
	alias := func(text string) func(*netlink.LinkAttrs) { return func(a *netlink.LinkAttrs) { a.Alias = text } }
	name := func(name string) func(*netlink.LinkAttrs) { return func(a *netlink.LinkAttrs) { a.Name = name } }
	named := func(nw *Network) { nw.Bridge = "br-lan" }
	foreign := func(nw *Network) { nw.Bridge, nw.Foreign = "br-lan", true }
	phase := func(p Phase) func(*Network) { return func(nw *Network) { nw.Phase = p } }
	halfMade := madeEndpoint(func(r *endpointRecord) { r.Phase = Making })
	inSandbox := func(r *endpointRecord) { r.Sandbox = "/run/docker/netns/alive" }
	inDeadSandbox := func(r *endpointRecord) { r.Sandbox = "/run/docker/netns/gone" }

	bridge, hostEnd := bridgeName(netID), hostEndName(epID)
	for _, tt := range []struct {
		name      string
		networks  []Network
		endpoints []endpointRecord
		links     []*hostLink
		made      int      // index that the links of these names are known to have had
		want      []string // the steps, then the problems with "!" before them
	}{
		{name: "nothing"},
		{
			name:     "as it should be",
			networks: []Network{madeNetwork()}, endpoints: []endpointRecord{madeEndpoint(inSandbox)},
			links: []*hostLink{bridgeLink(), hostEndLink(inUse)},
		},
		{
			name:     "after a reboot",
			networks: []Network{madeNetwork()}, endpoints: []endpointRecord{madeEndpoint(inDeadSandbox)},
			want: []string{"remove endpoint: endpoint " + string(epID), "ensure bridge: bridge " + bridge + ": missing"},
		},
		{
			name: "bridge down", networks: []Network{madeNetwork()}, links: []*hostLink{bridgeLink(down)},
			want: []string{"ensure bridge: bridge " + bridge + ": down"},
		},
		{
			name: "bridge that somebody has put into a VRF", networks: []Network{madeNetwork()},
			links: []*hostLink{bridgeLink(func(a *netlink.LinkAttrs) { a.MasterIndex = 9 })},
		},
		{
			name: "bridge of another state", networks: []Network{madeNetwork()},
			links: []*hostLink{bridgeLink(alias("weave:ff:network:" + string(netID)))},
			want:  []string{"ensure bridge: bridge " + bridge + `: alias "weave:ff:network:` + string(netID) + `"`},
		},
		{
			name:     "bridge deleted, host end there",
			networks: []Network{madeNetwork()}, endpoints: []endpointRecord{madeEndpoint()},
			links: []*hostLink{hostEndLink(noMaster)},
			want: []string{
				"ensure bridge: bridge " + bridge + ": missing", "ensure host end: host end " + hostEnd + ": port of no bridge",
			},
		},
		{
			name:     "host end is a port of nothing",
			networks: []Network{madeNetwork()}, endpoints: []endpointRecord{madeEndpoint()},
			links: []*hostLink{bridgeLink(), hostEndLink(noMaster)},
			want:  []string{"ensure host end: host end " + hostEnd + ": port of no bridge"},
		},
		{
			name:     "host end of somebody else",
			networks: []Network{madeNetwork()}, endpoints: []endpointRecord{madeEndpoint()},
			links: []*hostLink{bridgeLink(), hostEndLink(alias("uplink"))},
			want:  []string{"!host end " + hostEnd + ": conflict"},
		},
		{
			name:     "links whose aliases somebody has changed while weave runs",
			networks: []Network{madeNetwork()}, endpoints: []endpointRecord{madeEndpoint()}, made: 8,
			links: []*hostLink{bridgeLink(), hostEndLink(alias("uplink"))},
			want:  []string{"ensure host end: host end " + hostEnd + `: alias "uplink"`},
		},
		{
			name:     "renamed links",
			networks: []Network{madeNetwork()}, endpoints: []endpointRecord{madeEndpoint()},
			links: []*hostLink{bridgeLink(name("br5")), hostEndLink(name("eth7"))},
			want: []string{
				"ensure bridge: bridge " + bridge + ": renamed to br5",
				"ensure host end: host end " + hostEnd + ": renamed to eth7",
			},
		},
		{
			name:     "renamed, and somebody else's link has the name",
			networks: []Network{madeNetwork()},
			links:    []*hostLink{bridgeLink(name("br5")), bridgeLink(alias("mine"))},
			want:     []string{"!bridge " + bridge + ": conflict"},
		},
		{
			name: "named bridge that has lost its alias", networks: []Network{madeNetwork(named)}, made: 7,
			links: []*hostLink{bridgeLink(name("br-lan"), alias(""))},
			want:  []string{"ensure bridge: bridge br-lan: no alias"},
		},
		{
			name: "host end gone, container alive", networks: []Network{madeNetwork()},
			endpoints: []endpointRecord{madeEndpoint(inSandbox)}, links: []*hostLink{bridgeLink()},
			want: []string{"!endpoint " + string(epID) + ": host end " + hostEnd + " is gone"},
		},
		{
			name:     "half made",
			networks: []Network{madeNetwork(phase(Making))}, endpoints: []endpointRecord{halfMade},
			links: []*hostLink{bridgeLink(), hostEndLink()},
			want:  []string{"remove endpoint: endpoint " + string(epID), "remove network: network " + string(netID)},
		},
		{
			name:     "half removed",
			networks: []Network{madeNetwork(phase(Going))}, endpoints: []endpointRecord{madeEndpoint()},
			want: []string{"remove endpoint: endpoint " + string(epID), "remove network: network " + string(netID)},
		},
		{
			name: "records lost",
			links: []*hostLink{
				bridgeLink(), hostEndLink(),
				bridgeLink(name("other"), alias("weave:ff:network:1")), bridgeLink(name("br0"), alias("")),
			},
			want: []string{"remove link: link " + hostEnd, "remove link: link " + bridge},
		},
		{
			name: "record of an endpoint in use lost", networks: []Network{madeNetwork()},
			links: []*hostLink{bridgeLink(), hostEndLink(inUse)},
			want:  []string{"!link " + hostEnd + ": a container uses it"},
		},
		{
			name: "record of a network lost, its bridge has a port that stays",
			links: []*hostLink{
				bridgeLink(), hostEndLink(name("wve-other"), alias("weave:ff:endpoint:1")),
			},
			want: []string{"!link " + bridge + ": a container uses it"},
		},
		{
			name: "named bridge half made", networks: []Network{madeNetwork(named)},
			links: []*hostLink{bridgeLink(down)},
			want:  []string{"ensure bridge: bridge br-lan: renamed to " + bridge + ", down"},
		},
		{
			name: "named bridge made by somebody else", networks: []Network{madeNetwork(named)},
			links: []*hostLink{bridgeLink(name("br-lan"), alias(""), down)},
			want:  []string{"give up bridge: bridge br-lan"},
		},
		{
			name: "foreign bridge", networks: []Network{madeNetwork(foreign)},
			links: []*hostLink{bridgeLink(name("br-lan"), alias(""), down)},
		},
		{
			name:     "foreign bridge gone",
			networks: []Network{madeNetwork(foreign)}, endpoints: []endpointRecord{madeEndpoint()},
			links: []*hostLink{hostEndLink(noMaster)},
			want:  []string{"!network " + string(netID) + ": not found: bridge br-lan"},
		},
		{
			name:     "foreign bridge replaced by a link that is no bridge, but can have ports",
			networks: []Network{madeNetwork(foreign)}, endpoints: []endpointRecord{madeEndpoint()},
			links: []*hostLink{
				{Link: &netlink.Vrf{LinkAttrs: netlink.LinkAttrs{Name: "br-lan", Index: 7, Flags: net.FlagUp}}},
				hostEndLink(noMaster),
			},
			want: []string{"!network " + string(netID) + ": not found: bridge br-lan"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := world{
				stateID: testState, networks: tt.networks, endpoints: tt.endpoints, links: map[string]*hostLink{},
				made:  func(string) int { return tt.made },
				alive: func(sandbox string) bool { return strings.HasSuffix(sandbox, "alive") },
			}
			for _, link := range tt.links {
				w.links[link.Attrs().Name] = link
			}
			p := w.plan()
			var got []string
			for _, s := range p.steps {
				text := fmt.Sprintf("%s: %s", s.action, s.subject())
				if len(s.flaws) > 0 {
					text += ": " + texts(s.flaws)
				}
				got = append(got, text)
			}
			for i, x := range p.problems {
				text := "!" + x.String()
				if n := len(p.steps) + i; n < len(tt.want) {
					text = text[:min(len(text), len(tt.want[n]))] // the beginning is enough
				}
				got = append(got, text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
