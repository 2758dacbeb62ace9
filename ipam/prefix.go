package ipam

import (
	"fmt"
	"net/netip"
)

// lastOf returns the last address of p.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	host := p.Addr().BitLen() - p.Bits()
	for i := len(b) - 1; host > 0; i, host = i-1, host-8 {
		b[i] |= byte(1<<min(host, 8) - 1)
	}
	last := netip.AddrFrom16(b)
	if p.Addr().Is4() {
		return last.Unmap()
	}
	return last
}

// usable returns the first and the last address of the part within of subnet that endpoints can have. Without the
// network's own address and the broadcast address of IPv4 (RFC 3021: a /31 has neither), and the subnet-router anycast
// address of IPv6 (RFC 4291, 2.6.1; RFC 6164: not of a /127).
func usable(subnet, within netip.Prefix) (first, last netip.Addr) {
	first, last = within.Addr(), lastOf(within)
	if subnet.Addr().BitLen()-subnet.Bits() <= 1 {
		return first, last
	}
	if first == subnet.Addr() {
		first = first.Next()
	}
	if subnet.Addr().Is4() && last == lastOf(subnet) {
		last = last.Prev()
	}
	return first, last
}

// carve returns the first subnet of the given length in r that overlaps none of taken: looked for from the address from
// to the end of r, then from its beginning.
func carve(r netip.Prefix, bits int, from netip.Addr, taken []netip.Prefix) (netip.Prefix, bool) {
	if !r.Contains(from) {
		from = r.Addr()
	}
	if p, ok := carveFrom(r, bits, from, taken); ok {
		return p, true
	}
	return carveFrom(r, bits, r.Addr(), taken)
}

func carveFrom(r netip.Prefix, bits int, from netip.Addr, taken []netip.Prefix) (netip.Prefix, bool) {
	for r.Contains(from) { // the zero Addr, which follows the last one, is in no prefix
		p := netip.PrefixFrom(from, bits).Masked()
		if p.Addr() != from {
			from = lastOf(p).Next()
			continue
		}
		t, ok := overlapping(p, taken)
		if !ok {
			return p, true
		}
		from = lastOf(wider(p, t)).Next()
	}
	return netip.Prefix{}, false
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

func wider(p, q netip.Prefix) netip.Prefix {
	if q.Bits() < p.Bits() {
		return q
	}
	return p
}

// parseSubnet reads a subnet as a user types it: host bits are dropped, as Docker's own IPAM does.
func parseSubnet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%w: subnet %q: want an address and a length, like 10.32.0.0/22 or fd00:32::/64",
			ErrInvalid, s)
	}
	return p.Masked(), nil
}

// parseAddress reads an address as Docker sends it.
func parseAddress(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: address %q: want one like 10.32.0.5 or fd00:32::5", ErrInvalid, s)
	}
	if addr.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%w: address %q: a pool's addresses have no zone", ErrForeignAddress, s)
	}
	return addr.Unmap(), nil
}
