// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
)

// The address spaces. A subnet may be in both: a swarm's leader requests it in the global space, and each node that
// runs one of the swarm's tasks requests it in its local space.
const (
	LocalSpace  = "weavelocal"
	GlobalSpace = "weaveglobal"
)

// Lengths, in bits, of the prefixes of subnets that are chosen out of a range.
const (
	// DefaultSubnetBits is the default of Options.SubnetBits: a /22 has as many addresses as a bridge has ports.
	DefaultSubnetBits = 22
	// MinSubnetBits and MaxSubnetBits are the limits of Options.SubnetBits. A /30 is too small: Docker before 28
	// uses one of its two addresses for a gateway.
	MinSubnetBits = 8
	MaxSubnetBits = 29
	// SubnetBitsV6 is the length of an IPv6 subnet, and the greatest length of the range that it is from.
	SubnetBitsV6 = 64
)

// maxOwner is the length in bytes of the longest owner that is recorded. Docker sets names of containers no
// limit; one that is longer counts as unknown.
const maxOwner = 255

// DefaultRangeV4 returns the default of Options.RangeV4.
func DefaultRangeV4() netip.Prefix { return netip.MustParsePrefix("10.32.0.0/12") }

// ValidRangeV4 reports whether p can be Options.RangeV4: an IPv4 prefix without host bits, all of it usable.
func ValidRangeV4(p netip.Prefix) bool {
	return p.Addr().Is4() && p == p.Masked() && Usable(p)
}

// ValidRangeV6 reports whether p can be Options.RangeV6: an IPv6 prefix without host bits that has a subnet of
// SubnetBitsV6, all of it usable.
func ValidRangeV6(p netip.Prefix) bool {
	return p.Addr().Is6() && !p.Addr().Is4In6() && p == p.Masked() && p.Bits() <= SubnetBitsV6 && Usable(p)
}

// unusable are the prefixes whose addresses no endpoint can have, and what they are (RFC 6890).
var unusable = []struct {
	prefix netip.Prefix
	are    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "addresses of an unnamed host"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback addresses"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local addresses"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast addresses"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved and broadcast addresses"},
	{netip.MustParsePrefix("::/96"), "the unspecified and the loopback address, and IPv4 addresses"},
	{netip.MustParsePrefix("::ffff:0:0/96"), "IPv4 addresses"},
	{netip.MustParsePrefix("fe80::/10"), "link-local addresses"},
	{netip.MustParsePrefix("ff00::/8"), "multicast addresses"},
}

// Usable reports whether an endpoint can have the addresses of p, none of which is loopback, link-local, multicast or
// reserved.
func Usable(p netip.Prefix) bool { return checkUsable(p) == nil }

// checkUsable refuses a subnet that has addresses that no endpoint can have.
func checkUsable(subnet netip.Prefix) error {
	for _, u := range unusable {
		if subnet.Overlaps(u.prefix) {
			return fmt.Errorf("%w: subnet %s: overlaps %s, which no endpoint can have addresses of: they are %s",
				ErrInvalid, subnet, u.prefix, u.are)
		}
	}
	return nil
}

// checkSpace refuses an address space other than weave's two.
func checkSpace(space string) error {
	if space != LocalSpace && space != GlobalSpace {
		return fmt.Errorf("%w: address space %q: want %s or %s", ErrInvalid, space, LocalSpace, GlobalSpace)
	}
	return nil
}

// checkPrefix refuses a prefix that is invalid, has host bits, or is of IPv4 addresses mapped to IPv6. What is the
// prefix's name in the error.
func checkPrefix(what string, p netip.Prefix) error {
	if !p.IsValid() || p.Addr().Is4In6() || p != p.Masked() {
		return fmt.Errorf("%w: %s %s: want a prefix without host bits, like 10.32.0.0/22 or fd00:32::/64",
			ErrInvalid, what, p)
	}
	return nil
}

// checkAddress refuses an address that is invalid, has a zone, or is an IPv4 address mapped to IPv6.
func checkAddress(addr netip.Addr) error {
	if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() {
		return fmt.Errorf("%w: address %s: want one like 10.32.0.5 or fd00:32::5, without a zone", ErrInvalid, addr)
	}
	return nil
}
