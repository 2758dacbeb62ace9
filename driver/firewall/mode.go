// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"net/netip"
	"slices"
)

// Mode says for which protocols weave writes rules.
type Mode string

// The modes. What an earlier process wrote and the mode does not allow is removed.
const (
	Auto     Mode = "auto" // IPv4 and IPv6
	IPv4Only Mode = "ipv4"
	IPv6Only Mode = "ipv6"
	Off      Mode = "off"
)

// Modes are all that there are.
var Modes = []Mode{Auto, IPv4Only, IPv6Only, Off}

// family is an address family, as its protocol is called.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

var families = []family{ipv4, ipv6}

// Covers reports whether there are rules for packets of an address's family.
func (m Mode) Covers(addr netip.Addr) bool {
	if addr.Is4() {
		return m.allows(ipv4)
	}
	return m.allows(ipv6)
}

// allows reports whether there may be rules for a family.
func (m Mode) allows(v family) bool {
	return slices.Contains(map[Mode][]family{IPv4Only: {ipv4}, IPv6Only: {ipv6}, Off: {}, Auto: families}[m], v)
}
