package ipam

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	docker "github.com/docker/go-plugins-helpers/ipam"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestListing(t *testing.T) {
	f := newFixture(t, Options{})
	start := time.Now().Add(-time.Second)
	b, _ := f.pool(docker.RequestPoolRequest{Pool: "fd00:9::/64"})
	a, _ := f.pool(docker.RequestPoolRequest{Pool: "10.9.0.0/24", SubPool: "10.9.0.128/25"})
	f.address(a, "10.9.0.200", "10.9.0.200/24")
	f.address(a, "10.9.0.1", "10.9.0.1/24")
	want := []Pool{
		{ID: a, Space: LocalSpace, Subnet: netip.MustParsePrefix("10.9.0.0/24"), SubPool: netip.MustParsePrefix("10.9.0.128/25"), Used: 2, Free: 126},
		{ID: b, Space: LocalSpace, Subnet: netip.MustParsePrefix("fd00:9::/64"), Free: math.MaxUint64},
	}
	got := f.Pools()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{}), cmpopts.IgnoreFields(Pool{}, "Created")); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
	addresses := f.Addresses(a)
	if len(addresses) != 2 || addresses[0].Address.String() != "10.9.0.1" || addresses[1].Address.String() != "10.9.0.200" {
		t.Errorf("addresses %v", addresses)
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

func TestForget(t *testing.T) {
	f := newFixture(t, Options{})
	a, b := f.subnet("10.9.0.0/24"), f.subnet("10.10.0.0/24")
	g, _ := f.pool(docker.RequestPoolRequest{AddressSpace: GlobalSpace, Pool: "10.9.0.0/24"})
	for n := 1; n <= 3; n++ {
		f.address(a, "", fmt.Sprintf("10.9.0.%d/24", n))
	}
	f.address(b, "", "10.10.0.1/24")
	f.address(g, "", "10.9.0.1/24")
	known := Known{netip.MustParsePrefix("10.9.0.0/24"): {netip.MustParseAddr("10.9.0.3"), netip.MustParseAddr("10.9.0.1")}}
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
	f.address(a, "", "10.9.0.4/24")
	f.address(a, "10.9.0.2", "10.9.0.2/24")
	if p := f.Pools(); len(p) != 2 || p[0].ID != g || p[0].Used != 1 || p[1].ID != a {
		t.Errorf("pools %v", p)
	}
}
