// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWaysOut: of a container that exposes ports and is on a network that leaves those to Docker, and on another one.
func TestWaysOut(t *testing.T) {
	ipv4, ipv6 := netip.MustParseAddr("10.41.0.1"), netip.MustParseAddr("fd41::1")
	auto := Network{Definition: withGateway(networkID(1)).Definition}
	auto.Gateway = GatewayAuto
	exposing := Endpoint{
		ID: endpointID(1), Network: auto.ID, Sandbox: "/run/x", Addresses: newEndpoint(auto.ID, 1).Addresses,
	}
	for _, c := range []struct {
		name     string
		gateway  Gateway      // of the other network
		gateways []netip.Addr // of the other endpoint
		external bool         // these are the container's way out
		want     [2]string    // of the first and of the other one
	}{
		{"neither is Docker's choice", GatewayNative, []netip.Addr{ipv4}, false,
			[2]string{"docker,fd00:40::1", ""}},
		{"both families", GatewayNative, []netip.Addr{ipv4, ipv6}, true, [2]string{"", "10.41.0.1,fd41::1"}},
		{"IPv4 alone", GatewayNative, []netip.Addr{ipv4}, true, [2]string{"fd00:40::1", "10.41.0.1"}},
		{"by a router of IPv4 alone", "container:vpn", []netip.Addr{ipv4}, true, [2]string{"", "10.41.0.1"}},
		{"by the LAN's router", "10.41.0.1", []netip.Addr{ipv4}, true, [2]string{"", "10.41.0.1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			other := Network{Definition: Definition{ID: networkID(2), Gateway: c.gateway}}
			beside := Endpoint{
				ID: endpointID(2), Network: other.ID, Sandbox: exposing.Sandbox,
				Gateways: c.gateways, External: c.external,
			}
			got := WaysOut([]Network{auto, other}, []Endpoint{exposing, beside})
			if diff := cmp.Diff(c.want, [2]string{got[exposing.ID], got[beside.ID]}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestWaysOutByTwoNetworks: a network that Docker has chosen though it has one gateway alone is the way out of that
// family, and another is that of the other family.
func TestWaysOutByTwoNetworks(t *testing.T) {
	ipv4, ipv6 := netip.MustParseAddr("10.41.0.1"), netip.MustParseAddr("fd41::1")
	endpoint := func(n int, gateways ...netip.Addr) Endpoint {
		return Endpoint{
			ID: endpointID(n), Network: networkID(n), Sandbox: "/run/x", Gateways: gateways, External: true,
		}
	}
	var networks []Network
	for n := range 2 {
		networks = append(networks, Network{Definition: Definition{ID: networkID(n), Gateway: GatewayNative}})
	}
	both := endpoint(0, netip.MustParseAddr("10.40.0.1"), ipv6)
	for _, c := range []struct {
		other netip.Addr
		want  [2]string
	}{{ipv4, [2]string{"fd41::1", "10.41.0.1"}}, {ipv6, [2]string{"10.40.0.1", "fd41::1"}}} {
		other := endpoint(1, c.other)
		got := WaysOut(networks, []Endpoint{both, other})
		if diff := cmp.Diff(c.want, [2]string{got[both.ID], got[other.ID]}); diff != "" {
			t.Errorf("beside %s (-want +got)\n%s", c.other, diff)
		}
	}
}
