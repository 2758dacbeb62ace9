// SPDX-License-Identifier: Apache-2.0

// Package prefix has what net/netip lacks about prefixes.
package prefix

import "net/netip"

// Last returns the last address of p.
func Last(p netip.Prefix) netip.Addr {
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
