// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"net/netip"
	"slices"
)

// WaysOut says where what each endpoint sends to the outside goes: to gateways, IPv4 first, or over Docker's bridge, by
// GatewayDocker, perhaps with a gateway for IPv6. Empty: nowhere over its network, also because Docker has made
// gateways of another network the container's way out. Where these are of IPv4 alone, IPv6 may still leave by this one.
// From Docker 29 on it can choose two networks, the second for the family that the first has no gateway of.
func WaysOut(networks []Network, endpoints []Endpoint) map[EndpointID]string {
	byID := map[NetworkID]Network{}
	for _, nw := range networks {
		byID[nw.ID] = nw
	}
	chosen := map[string][]netip.Addr{} // by sandbox, the gateways that are its way out
	first := map[string]netip.Addr{}    // by sandbox, that of a network with no other one
	routed := map[string]bool{}         // sandboxes that leave by somebody else's router, see leavesByRouter
	for _, ep := range endpoints {
		if ep.External {
			chosen[ep.Sandbox] = append(chosen[ep.Sandbox], ep.Gateways...)
			if len(ep.Gateways) == 1 {
				first[ep.Sandbox] = ep.Gateways[0]
			}
		}
		if byID[ep.Network].hasRouter() && len(ep.Gateways) > 0 {
			routed[ep.Sandbox] = true
		}
	}
	ways := map[EndpointID]string{}
	for _, ep := range endpoints {
		nw := byID[ep.Network]
		gateways, others := chosen[ep.Sandbox]
		ipv6 := nw.besideDockers(ep)
		switch {
		case !others:
			ways[ep.ID] = nw.wayOut(ep)
		case ep.External:
			if before, ok := first[ep.Sandbox]; ok && len(ep.Gateways) > 1 {
				ep.Gateways = slices.DeleteFunc(slices.Clone(ep.Gateways), func(g netip.Addr) bool {
					return g.Is4() == before.Is4()
				})
			}
			ways[ep.ID] = nw.wayOut(ep)
		case ipv6.IsValid() && !routed[ep.Sandbox] && !slices.ContainsFunc(gateways, netip.Addr.Is6):
			ways[ep.ID] = ipv6.String()
		}
	}
	return ways
}
