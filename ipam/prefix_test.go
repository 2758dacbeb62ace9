// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"math"
	"net/netip"
	"testing"
)

func TestUsable(t *testing.T) {
	for _, c := range []struct {
		subnet, within, first, last string
		size                        uint64
	}{
		{"10.0.0.0/24", "10.0.0.0/24", "10.0.0.1", "10.0.0.254", 254},
		{"10.0.0.0/24", "10.0.0.0/25", "10.0.0.1", "10.0.0.127", 127},
		{"10.0.0.0/24", "10.0.0.64/26", "10.0.0.64", "10.0.0.127", 64},
		{"10.0.0.0/24", "10.0.0.128/25", "10.0.0.128", "10.0.0.254", 127},
		{"10.0.0.0/24", "10.0.0.7/32", "10.0.0.7", "10.0.0.7", 1},
		{"10.0.0.0/24", "10.0.0.0/32", "10.0.0.1", "10.0.0.0", 0},
		{"10.0.0.0/30", "10.0.0.0/30", "10.0.0.1", "10.0.0.2", 2},
		{"10.0.0.0/31", "10.0.0.0/31", "10.0.0.0", "10.0.0.1", 2},
		{"10.0.0.1/32", "10.0.0.1/32", "10.0.0.1", "10.0.0.1", 1},
		{"10.0.0.0/8", "10.0.0.0/8", "10.0.0.1", "10.255.255.254", 1<<24 - 2},
		{"fd00::/64", "fd00::/64", "fd00::1", "fd00::ffff:ffff:ffff:ffff", math.MaxUint64},
		{"fd00::/63", "fd00::/63", "fd00::1", "fd00::1:ffff:ffff:ffff:ffff", math.MaxUint64},
		{"fd00::/48", "fd00::/48", "fd00::1", "fd00::ffff:ffff:ffff:ffff:ffff", math.MaxUint64},
		{"fd00::/120", "fd00::/120", "fd00::1", "fd00::ff", 255},
		{"fd00::/127", "fd00::/127", "fd00::", "fd00::1", 2},
		{"fd00::5/128", "fd00::5/128", "fd00::5", "fd00::5", 1},
	} {
		first, last := usable(netip.MustParsePrefix(c.subnet), netip.MustParsePrefix(c.within))
		if first.String() != c.first || last.String() != c.last || countAddresses(first, last) != c.size {
			t.Errorf("%s of %s: %s to %s, %d: want %s to %s, %d",
				c.within, c.subnet, first, last, countAddresses(first, last), c.first, c.last, c.size)
		}
	}
}
