// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/ipam"
)

// TestOptionsOfWhatIsTakenUp: a network or an endpoint that an earlier version accepted with an option that has no
// effect is taken up, with a warning, since containers run with it. One whose definition can't be read is not.
func TestOptionsOfWhatIsTakenUp(t *testing.T) {
	for name, tt := range map[string]struct {
		network, endpoint map[string]string
		taken, router     bool
		warnings          []string // texts, one of each warning about an option
	}{
		"router": {endpoint: map[string]string{"works.weave.router": "1"}, taken: true, router: true},
		"bridge's option": {
			network: map[string]string{"com.docker.network.bridge.enable_icc": "false"},
			taken:   true, warnings: []string{"enable_icc"},
		},
		"unknown option": {network: map[string]string{"colour": "red"}, taken: true, warnings: []string{"colour"}},
		"endpoint's options": {
			endpoint: map[string]string{"com.docker.network.endpoint.ifname": "lan", "colour": "red"},
			taken:    true, warnings: []string{"colour", "ifname"},
		},
		"malformed option": {network: map[string]string{"works.weave.mtu": "big"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, docker, tracker, _ := newComparison(t)
			log, hook := logrustest.NewNullLogger()
			c.log = logrus.NewEntry(log)
			n := localNetwork(networkID, Subnet{Subnet: subnetA})
			n.Options = tt.network
			docker.known = Known{Networks: []Network{n}, Endpoints: []Endpoint{{
				ID: endpointID, Network: networkID, MAC: mac.MustParse("02:00:00:00:00:01"), Options: tt.endpoint,
			}}}
			compareTwice(t, c)
			if taken := len(tracker.adopted) == 1; taken != tt.taken {
				t.Fatalf("adopted %+v", tracker.adopted)
			}
			if tt.taken && (len(tracker.with) != 1 || tracker.with[0].Router != tt.router) {
				t.Errorf("endpoints %+v, want one with router %v", tracker.with, tt.router)
			}
			var warnings []string
			for _, e := range hook.AllEntries() {
				if err, ok := e.Data[logrus.ErrorKey].(error); ok && e.Level == logrus.WarnLevel {
					warnings = append(warnings, err.Error())
				}
			}
			if len(warnings) != len(tt.warnings) {
				t.Fatalf("warnings %q, want %d", warnings, len(tt.warnings))
			}
			for i, text := range tt.warnings {
				if !strings.Contains(warnings[i], text) {
					t.Errorf("warning %q, want one about %s", warnings[i], text)
				}
			}
		})
	}
}

// TestEmptyStateTakesUpWhatDockerHas: the plugin was removed and installed again beside running containers.
func TestEmptyStateTakesUpWhatDockerHas(t *testing.T) {
	c, docker, tracker, pools := newComparison(t)
	n := localNetwork(networkID,
		Subnet{
			Subnet: subnetA, Gateway: netip.MustParseAddr("10.40.0.254"), Range: netip.MustParsePrefix("10.40.0.0/25"),
		},
		Subnet{Subnet: netip.MustParsePrefix("fd00:40::/64")})
	n.Internal, n.Options = true, map[string]string{"works.weave.mtu": "1400"}
	docker.known = Known{
		Networks: []Network{n,
			{ID: "swarmnetwork0000000000000", Driver: "weave", IPAMDriver: "weave", Scope: "swarm"},
			{
				ID: "macvlan000000", Driver: "macvlan", IPAMDriver: "weave", Scope: "local",
				Subnets: []Subnet{{Subnet: subnetB}},
			},
		},
		Endpoints: []Endpoint{{
			ID: endpointID, Network: networkID, MAC: mac.MustParse("02:00:00:00:00:01"),
			Addresses: prefixes("10.40.0.3/24", "fd00:40::3/64"), Sandbox: "/var/run/docker/netns/1bcf64dc8437",
		}},
	}
	compareTwice(t, c)
	want := []driver.NetworkSpec{{Definition: driver.Definition{
		ID: networkID, MTU: 1400, Internal: true,
		Pools: []driver.Pool{
			{Subnet: subnetA, Gateway: netip.MustParseAddr("10.40.0.254"), Space: ipam.LocalSpace},
			{Subnet: netip.MustParsePrefix("fd00:40::/64"), Space: ipam.LocalSpace},
		},
	}}}
	if diff := cmp.Diff(want, tracker.adopted, equalAddresses); diff != "" {
		t.Errorf("adopted (-want +got):\n%s", diff)
	}
	if len(tracker.with) != 1 || tracker.with[0].ID != endpointID || tracker.with[0].Sandbox == "" ||
		len(tracker.with[0].Addresses) != 2 {
		t.Errorf("endpoints %+v", tracker.with)
	}
	wantHeld := map[string][]string{
		"weavelocal/10.40.0.0/24/10.40.0.0/25": {"10.40.0.3", "10.40.0.254"},
		"weavelocal/10.41.0.0/24":              {},
		"weavelocal/fd00:40::/64":              {"fd00:40::3"},
	}
	if diff := cmp.Diff(wantHeld, held(pools)); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

func TestEndpointOfSwarmsNetworkIsTakenUp(t *testing.T) {
	c, docker, tracker, _ := newComparison(t)
	docker.known = Known{
		Networks:  []Network{{ID: networkID, Driver: "weave", Scope: "swarm"}},
		Endpoints: []Endpoint{{ID: endpointID, Network: networkID}},
	}
	compareTwice(t, c)
	if len(tracker.adopted) != 1 || len(tracker.with) != 1 {
		t.Errorf("adopted %d networks, %d endpoints; want one each", len(tracker.adopted), len(tracker.with))
	}
}

// TestLateNetworkNeedsTwoReadings: it may have been removed since Docker was read.
func TestLateNetworkNeedsTwoReadings(t *testing.T) {
	c, docker, tracker, _ := newComparison(t)
	first, err := c.compare(t.Context(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	docker.known.Networks = []Network{localNetwork(networkID)}
	second, err := c.compare(t.Context(), first, false)
	if err != nil || len(tracker.adopted) != 0 {
		t.Fatalf("after one reading: adopted %v, %v", tracker.adopted, err)
	}
	if _, err := c.compare(t.Context(), second, false); err != nil || len(tracker.adopted) != 1 {
		t.Errorf("after two: adopted %v, %v", tracker.adopted, err)
	}
}

// TestAddressesThatTheStateLacksAreHeld: an older copy of the state knows the pool, and not what was handed out since.
func TestAddressesThatTheStateLacksAreHeld(t *testing.T) {
	c, docker, tracker, pools := newComparison(t)
	id := requestPool(t, pools, ipam.LocalSpace, subnetA, "10.40.0.1")
	docker.known = Known{
		Networks: []Network{
			localNetwork(networkID, Subnet{Subnet: subnetA, Gateway: netip.MustParseAddr("10.40.0.254")}),
		},
		Endpoints: []Endpoint{
			{ID: endpointID, Network: networkID, Addresses: prefixes("10.40.0.1/24")},
			{ID: "later", Network: networkID, Addresses: prefixes("10.40.0.2/24")},
		},
	}
	tracker.networks = []driver.Network{{Definition: driver.Definition{ID: networkID}}}
	first, err := c.compare(t.Context(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	// Requested since the first reading: it may be released again by the time of the second.
	docker.known.Endpoints = append(docker.known.Endpoints,
		Endpoint{ID: "latest", Network: networkID, Addresses: prefixes("10.40.0.3/24")})
	if diff := cmp.Diff(map[string][]string{id: {"10.40.0.1"}}, held(pools)); diff != "" {
		t.Errorf("held after one reading (-want +got):\n%s", diff)
	}
	if _, err := c.compare(t.Context(), first, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]string{id: {"10.40.0.1", "10.40.0.2", "10.40.0.254"}}, held(pools)); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}

// TestWhatDockerForgotIsNotInTheWay: an older copy of the state has a network that Docker has removed since, and lacks
// the one whose subnet overlaps it.
func TestWhatDockerForgotIsNotInTheWay(t *testing.T) {
	c, docker, tracker, pools := newComparison(t)
	requestPool(t, pools, ipam.LocalSpace, netip.MustParsePrefix("10.40.0.0/16"), "10.40.0.1")
	tracker.networks = []driver.Network{{Definition: driver.Definition{
		ID: "removed", Pools: []driver.Pool{{Subnet: netip.MustParsePrefix("10.40.0.0/16")}},
	}}}
	docker.known = Known{
		Networks:  []Network{localNetwork(networkID, Subnet{Subnet: subnetA})},
		Endpoints: []Endpoint{{ID: endpointID, Network: networkID, Addresses: prefixes("10.40.0.9/24")}},
	}
	compareTwice(t, c)
	if diff := cmp.Diff(map[string][]string{"weavelocal/10.40.0.0/24": {"10.40.0.9"}}, held(pools)); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
	if len(tracker.deleted) != 1 || len(tracker.adopted) != 1 {
		t.Errorf("deleted %v, adopted %v, want one each", tracker.deleted, tracker.adopted)
	}
}
