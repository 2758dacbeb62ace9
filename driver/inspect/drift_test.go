// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// subject is an endpoint and what was observed of it.
type subject struct {
	network  driver.Network
	endpoint driver.Endpoint
	observed Observation
}

// healthy returns an endpoint that is up and as it should be.
func healthy() subject {
	n := driver.Network{
		Definition: driver.Definition{ID: "aaaa10000000", Pools: []driver.Pool{
			{
				Subnet:   netip.MustParsePrefix("10.32.0.0/22"),
				Reserved: []netip.Addr{netip.MustParseAddr("10.32.0.99")},
			},
			{Subnet: netip.MustParsePrefix("fd00:1::/64")},
		}},
		Local: driver.Local{Bridge: "wv-aaaa10000000"},
	}
	e := driver.Endpoint{
		ID: "eeee10000000", Network: n.ID, HostEnd: "wve-eeee1000000", MAC: mac.MustParse("02:00:00:00:00:01"),
		Addresses: prefixes("10.32.0.2/22", "fd00:1::2/64"), Sandbox: "/var/run/docker/netns/0123456789ab",
	}
	o := Observation{
		Source: api.Kernel,
		Bridge: n.Bridge,
		Host: &netstate.Link{
			Index: 7, Name: e.HostEnd, Kind: "veth", Up: true, Carrier: true, PortState: "forwarding",
		},
		Inside: &netstate.Link{
			Index: 6, Name: "eth0", Kind: "veth", MAC: mac.MustParse("02:00:00:00:00:01"), MTU: 1500,
			Up: true, Carrier: true, Peer: 7,
			Addresses: prefixes("10.32.0.2/22", "fd00:1::2/64", "fe80::ff:fe00:1/64"),
		},
	}
	return subject{n, e, o}
}

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

func TestDrift(t *testing.T) {
	const hostDown, insideDown = "host end wve-eeee1000000 down", "eth0 down in the container"
	tests := []struct {
		name   string
		change func(*subject)
		want   []api.Drift
	}{
		{"none", func(*subject) {}, nil},
		{"link-local addresses that the container gave itself", func(s *subject) {
			own := prefixes("169.254.7.7/16", "fe80::7/64")
			s.observed.Inside.Addresses = append(s.observed.Inside.Addresses, own...)
		}, nil},
		{"host end missing", func(s *subject) {
			s.observed.Host, s.observed.Bridge = nil, ""
		}, drifts(api.HostEndMissing, "host end wve-eeee1000000 missing")},
		{"host end down", func(s *subject) {
			s.observed.Host.Up = false
		}, drifts(api.HostEndDown, hostDown)},
		{"another bridge", func(s *subject) {
			s.observed.Bridge = "docker0"
		}, drifts(api.WrongBridge, "host end wve-eeee1000000 on bridge docker0, not on wv-aaaa10000000")},
		{"no bridge", func(s *subject) {
			s.observed.Bridge = ""
		}, drifts(api.WrongBridge, "host end wve-eeee1000000 on no bridge, not on wv-aaaa10000000")},
		{"network not tracked", func(s *subject) {
			s.network, s.observed.Bridge = driver.Network{}, "docker0"
		}, nil},
		{"sandbox gone", func(s *subject) {
			s.observed.Err, s.observed.Inside = errors.New("no such file or directory"), nil
		}, drifts(api.SandboxUnreadable,
			"sandbox /var/run/docker/netns/0123456789ab can't be looked into: no such file or directory")},
		{"container end missing", func(s *subject) {
			s.observed.Inside = nil
		}, drifts(api.ContainerEndMissing, "container end missing in the container")},
		{"container end down", func(s *subject) {
			s.observed.Inside.Up = false
		}, drifts(api.ContainerEndDown, insideDown)},
		{"container end down, so the host end has no carrier", func(s *subject) {
			s.observed.Host.Carrier, s.observed.Inside.Up = false, false
		}, drifts(api.ContainerEndDown, insideDown)},
		{"MAC changed", func(s *subject) {
			s.observed.Inside.MAC = mac.MustParse("02:00:00:00:00:99")
		}, drifts(api.MACChanged, "MAC 02:00:00:00:00:99, not 02:00:00:00:00:01")},
		{"MAC gone", func(s *subject) {
			s.observed.Inside.MAC = mac.Address{}
		}, drifts(api.MACChanged, "MAC none, not 02:00:00:00:00:01")},
		{"address missing", func(s *subject) {
			s.observed.Inside.Addresses = prefixes("10.32.0.2/22")
		}, drifts(api.AddressMissing, "address fd00:1::2/64 missing")},
		{"unexpected address", func(s *subject) {
			s.observed.Inside.Addresses = append(s.observed.Inside.Addresses, prefixes("10.32.0.7/22")...)
		}, drifts(api.AddressUnexpected, "unexpected address 10.32.0.7/22")},
		{"address that the network reserves", func(s *subject) {
			s.observed.Inside.Addresses = append(s.observed.Inside.Addresses, prefixes("10.32.0.99/32")...)
		}, nil},
		{"address that no subnet covers", func(s *subject) {
			s.observed.Inside.Addresses = append(s.observed.Inside.Addresses, prefixes("192.0.2.1/24")...)
		}, nil},
		{"address on a network without IPAM", func(s *subject) {
			s.network.Pools = []driver.Pool{{Subnet: netip.MustParsePrefix("0.0.0.0/0")}}
			s.observed.Inside.Addresses = append(s.observed.Inside.Addresses, prefixes("192.0.2.1/24")...)
		}, nil},
		{"many unexpected addresses", func(s *subject) {
			s.observed.Inside.Addresses = append(s.observed.Inside.Addresses,
				prefixes("10.32.1.1/22", "10.32.1.2/22", "10.32.1.3/22", "10.32.1.4/22", "10.32.1.5/22")...)
		}, []api.Drift{
			{Kind: api.AddressUnexpected, Text: "unexpected address 10.32.1.1/22"},
			{Kind: api.AddressUnexpected, Text: "unexpected address 10.32.1.2/22"},
			{Kind: api.AddressUnexpected, Text: "unexpected address 10.32.1.3/22"},
			{Kind: api.AddressUnexpected, Text: "and 2 more unexpected addresses"},
		}},
		{"bridge down", func(s *subject) {
			s.observed.Down, s.observed.Host.PortState = true, "disabled"
		}, drifts(api.BridgeDown, "bridge wv-aaaa10000000 down")},
		{"host end blocked", func(s *subject) {
			s.observed.Host.PortState = "blocking"
		}, drifts(api.HostEndBlocked, "host end wve-eeee1000000 blocking")},
		{"host end isolated", func(s *subject) {
			s.observed.Host.Isolated = true
		}, drifts(api.HostEndBlocked, "host end wve-eeee1000000 isolated")},
		{"qdisc that drops", func(s *subject) {
			s.observed.Host.Qdisc = "blackhole"
		}, drifts(api.HostEndBlocked, "host end wve-eeee1000000 has qdisc blackhole")},
		{"qdisc that shapes", func(s *subject) {
			s.observed.Host.Qdisc = "tbf"
		}, nil},
		{"another prefix length", func(s *subject) {
			s.observed.Inside.Addresses = prefixes("10.32.0.2/24", "fd00:1::2/64")
		}, append(drifts(api.AddressMissing, "address 10.32.0.2/22 missing"),
			drifts(api.AddressUnexpected, "unexpected address 10.32.0.2/24")...)},
		{"link-local address that is tracked", func(s *subject) {
			s.endpoint.Addresses = append(s.endpoint.Addresses, prefixes("169.254.1.1/16")...)
		}, drifts(api.AddressMissing, "address 169.254.1.1/16 missing")},
		{"without a sandbox nothing is expected inside", func(s *subject) {
			s.endpoint.Sandbox, s.observed.Inside, s.observed.Err = "", nil, errors.New("no sandbox")
		}, nil},
		{"without a sandbox the host end is expected", func(s *subject) {
			s.endpoint.Sandbox, s.observed.Inside, s.observed.Host = "", nil, nil
		}, drifts(api.HostEndMissing, "host end wve-eeee1000000 missing")},
		{"on the host and inside", func(s *subject) {
			s.observed.Host.Up, s.observed.Inside.Up = false, false
		}, append(drifts(api.HostEndDown, hostDown), drifts(api.ContainerEndDown, insideDown)...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := healthy()
			tt.change(&s)
			got := Drift(s.network, s.endpoint, s.observed)
			if got == nil {
				t.Error("drift is nil, want an empty slice for none")
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
		})
	}
}

func drifts(kind api.DriftKind, text string) []api.Drift {
	return []api.Drift{{Kind: kind, Text: text}}
}
