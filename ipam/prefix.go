// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"

	"github.com/weaveplugin/weave/internal/prefix"
)

// usable returns the first and the last address that endpoints can have in the part within of subnet. These are all but
// the network's own address and the broadcast address of IPv4 (RFC 3021: a /31 has neither), and the subnet-router
// anycast address of IPv6 (RFC 4291, 2.6.1; RFC 6164: a /127 has none). If there is none, last is less than first.
func usable(subnet, within netip.Prefix) (first, last netip.Addr) {
	first, last = within.Addr(), prefix.Last(within)
	if subnet.Addr().BitLen()-subnet.Bits() <= 1 {
		return first, last
	}
	if first == subnet.Addr() {
		first = first.Next()
	}
	if subnet.Addr().Is4() && last == prefix.Last(subnet) {
		last = last.Prev()
	}
	return first, last
}

// overlapping returns one of the prefixes that overlaps p.
func overlapping(p netip.Prefix, prefixes []netip.Prefix) (netip.Prefix, bool) {
	for _, q := range prefixes {
		if p.Overlaps(q) {
			return q, true
		}
	}
	return netip.Prefix{}, false
}

// wider returns the prefix with more addresses.
func wider(p, q netip.Prefix) netip.Prefix {
	if q.Bits() < p.Bits() {
		return q
	}
	return p
}
