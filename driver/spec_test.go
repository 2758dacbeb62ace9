// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"net/netip"
	"testing"

	"github.com/weaveplugin/weave/internal/mac"
)

// pool returns the pool of a subnet.
func pool(subnet string, changes ...func(*Pool)) Pool {
	p := Pool{Subnet: netip.MustParsePrefix(subnet)}
	for _, change := range changes {
		change(&p)
	}
	return p
}

func TestCheckNetworkSpec(t *testing.T) {
	pools := func(pools ...Pool) func(*NetworkSpec) { return func(s *NetworkSpec) { s.Pools = pools } }
	outside := netip.MustParseAddr("10.0.1.1")
	gateway := func(p *Pool) { p.Gateway = outside }
	reserved := func(p *Pool) { p.Reserved = []netip.Addr{outside} }
	for name, tt := range map[string]struct {
		change func(*NetworkSpec)
		err    string
	}{
		"as it should be":          {change: pools(pool("10.0.0.0/24"), pool("fd00::/64"))},
		"no pools":                 {change: func(*NetworkSpec) {}},
		"id too short":             {change: func(s *NetworkSpec) { s.ID = "short" }, err: "network id"},
		"bridge":                   {change: func(s *NetworkSpec) { s.Bridge = "br+" }, err: "works.weave.bridge"},
		"mtu":                      {change: func(s *NetworkSpec) { s.MTU = 67 }, err: "want 68..65535"},
		"pool of mapped IPv4":      {change: pools(pool("::ffff:10.1.0.0/112")), err: "want a subnet"},
		"pool with host bits":      {change: pools(pool("10.0.0.1/24")), err: "want a subnet"},
		"zero pool":                {change: pools(Pool{}), err: "want a subnet"},
		"gateway outside":          {change: pools(pool("10.0.0.0/24", gateway)), err: "an address of 10.0.0.0/24"},
		"reserved address outside": {change: pools(pool("10.0.0.0/24", reserved)), err: "auxiliary address 10.0.1.1"},
		"mtu too small for IPv6": {
			change: func(s *NetworkSpec) { s.MTU, s.Pools = 1279, []Pool{pool("fd00::/64")} }, err: "at least 1280",
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := NetworkSpec{Definition: Definition{ID: netID, MTU: 1500}}
			tt.change(&spec)
			checkRefusal(t, spec.check(), tt.err)
		})
	}
}

func TestCheckEndpointSpec(t *testing.T) {
	withMAC := func(text string) func(*EndpointSpec) {
		return func(s *EndpointSpec) { s.MAC = mac.MustParse(text) }
	}
	withAddress := func(a netip.Prefix) func(*EndpointSpec) {
		return func(s *EndpointSpec) { s.Addresses = []netip.Prefix{a} }
	}
	good, mapped := netip.MustParsePrefix("10.32.0.5/22"), netip.MustParsePrefix("::ffff:10.1.0.0/112")
	for name, tt := range map[string]struct {
		change func(*EndpointSpec)
		err    string
	}{
		"nothing but ids": {change: func(*EndpointSpec) {}},
		"MAC":             {change: withMAC("02:42:0a:20:00:05")},
		"address":         {change: withAddress(good)},
		"endpoint id":     {change: func(s *EndpointSpec) { s.ID = "../etc" }, err: "endpoint id"},
		"network id":      {change: func(s *EndpointSpec) { s.Network = "short" }, err: "network id"},
		"multicast MAC":   {change: withMAC("03:00:00:00:00:01"), err: "first byte is even"},
		"zero address":    {change: withAddress(netip.Prefix{}), err: "want one such as"},
		"mapped address":  {change: withAddress(mapped), err: "want one such as"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := EndpointSpec{ID: epID, Network: netID}
			tt.change(&spec)
			checkRefusal(t, spec.check(), tt.err)
		})
	}
}
