// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestListing(t *testing.T) {
	f := newFixture(t, Options{})
	start := time.Now().Add(-time.Second)
	v4, v6 := netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd00:9::/64")
	half := netip.MustParsePrefix("10.9.0.128/25")
	b := f.pool(PoolRequest{Subnet: v6}).ID
	a := f.pool(PoolRequest{Subnet: v4, Range: half}).ID
	f.address(a, "10.9.0.200", "10.9.0.200/24")
	f.address(a, "10.9.0.1", "10.9.0.1/24")
	want := []Pool{
		{ID: a, Space: LocalSpace, Subnet: v4, Range: half, Used: 2, Free: 126},
		{ID: b, Space: LocalSpace, Subnet: v6, Free: math.MaxUint64},
	}
	got := f.Pools()
	if diff := cmp.Diff(want, got, comparePrefix, cmpopts.IgnoreFields(Pool{}, "Created")); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
	addresses := f.Addresses(a)
	held := []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.200")}
	if len(addresses) != 2 || addresses[0].Address != held[0] || addresses[1].Address != held[1] {
		t.Fatalf("addresses %v, want %v", addresses, held)
	}
	for _, since := range []time.Time{got[0].Created, got[1].Created, addresses[0].Since} {
		if since.Before(start) || since.After(time.Now()) {
			t.Errorf("since %v", since)
		}
	}
	if len(f.Addresses("weavelocal/10.10.0.0/24")) != 0 {
		t.Error("a pool that isn't there has addresses")
	}
}
