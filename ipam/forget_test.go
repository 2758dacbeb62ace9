// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestForget(t *testing.T) {
	f := newFixture(t, Options{})
	a, b := f.subnet("10.9.0.0/24"), f.subnet("10.10.0.0/24")
	g := f.pool(PoolRequest{Space: GlobalSpace, Subnet: netip.MustParsePrefix("10.9.0.0/24")}).ID
	for n := 1; n <= 3; n++ {
		f.address(a, "", fmt.Sprintf("10.9.0.%d/24", n))
	}
	f.address(b, "", "10.10.0.1/24")
	f.address(g, "", "10.9.0.1/24")
	inUse := []netip.Addr{netip.MustParseAddr("10.9.0.3"), netip.MustParseAddr("10.9.0.1")}
	known := Known{netip.MustParsePrefix("10.9.0.0/24"): inUse}
	forget := func(known Known, before time.Time, want ...Forgotten) {
		t.Helper()
		got, err := f.Forget(t.Context(), LocalSpace, known, before)
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	forget(known, time.Now().Add(-time.Hour)) // all is too new
	soon := time.Now().Add(time.Hour)
	p := f.pools[b]
	p.alloc.held[netip.MustParseAddr("10.10.0.1")] = soon
	forget(known, soon, Forgotten{Pool: a, Address: netip.MustParseAddr("10.9.0.2")}) // b is in the making
	p.alloc.held[netip.MustParseAddr("10.10.0.1")] = epoch
	forget(known, soon, Forgotten{Pool: b})
	forget(known, soon)
	f.restart()
	f.address(a, "", "10.9.0.2/24")
	f.address(a, "", "10.9.0.4/24")
	if p := f.Pools(); len(p) != 2 || p[0].ID != g || p[0].Used != 1 || p[1].ID != a {
		t.Errorf("pools %v", p)
	}
}
