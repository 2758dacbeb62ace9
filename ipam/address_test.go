// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestRequestAddress(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("10.9.0.0/29")
	f.address(id, "", "10.9.0.1/29")
	f.address(id, "10.9.0.3", "10.9.0.3/29")
	f.address(id, "10.9.0.4", "10.9.0.4/29")
	f.address(id, "", "10.9.0.2/29")
	f.address(id, "", "10.9.0.5/29")
	for _, held := range []string{"10.9.0.1", "10.9.0.3"} {
		f.refused(id, held, ErrAddressInUse)
	}
	for _, foreign := range []string{"10.9.0.0", "10.9.0.7", "10.9.0.8", "10.8.255.255", "fd00::1"} {
		f.refused(id, foreign, ErrForeignAddress)
	}
	for _, invalid := range []string{"::ffff:10.9.0.5", "fe80::1%eth0"} {
		f.refused(id, invalid, ErrInvalid)
	}
	f.refused("weavelocal/10.10.0.0/24", "", ErrPoolUnknown)
	f.refused("", "", ErrPoolUnknown)
	f.address(id, "", "10.9.0.6/29")
	f.refused(id, "", ErrPoolExhausted)
	f.release(id, "10.9.0.4")
	f.address(id, "", "10.9.0.4/29")
}

func TestRequestAddressV6(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("fd00:9::/64")
	f.address(id, "", "fd00:9::1/64")
	f.address(id, "fd00:9::3", "fd00:9::3/64")
	f.address(id, "fd00:9:0:0:8000::", "fd00:9:0:0:8000::/64")
	f.address(id, "", "fd00:9::2/64")
	f.address(id, "", "fd00:9::4/64")
	f.refused(id, "fd00:9::", ErrForeignAddress)
	f.refused(id, "fd00:9:0:1::", ErrForeignAddress)
	f.refused(id, "10.9.0.1", ErrForeignAddress)
}

func TestRangeOfPool(t *testing.T) {
	f := newFixture(t, Options{})
	subnet, pickRange := netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("10.9.0.252/30")
	id := f.pool(PoolRequest{Subnet: subnet, Range: pickRange}).ID
	f.address(id, "", "10.9.0.252/24")
	f.address(id, "10.9.0.1", "10.9.0.1/24") // a gateway may be outside
	f.refused(id, "10.9.0.1", ErrAddressInUse)
	f.release(id, "10.9.0.1")
	f.address(id, "", "10.9.0.253/24")
	f.address(id, "", "10.9.0.254/24")
	f.refused(id, "", ErrPoolExhausted) // what was outside does not come back in
	f.restart()
	f.refused(id, "", ErrPoolExhausted)
	f.address(id, "10.9.0.1", "10.9.0.1/24")
	f.release(id, "10.9.0.253")
	f.address(id, "", "10.9.0.253/24")
}

func TestReleaseOfWhatIsNotThere(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("10.9.0.0/24")
	before := f.faulty.applied
	f.release(id, "10.9.0.1")
	f.release(id, "10.99.0.1")
	f.release("weavelocal/10.99.0.0/24", "10.99.0.1")
	f.releasePool("weavelocal/10.99.0.0/24")
	f.releasePool("nonsense")
	if f.faulty.applied != before {
		t.Error("the store was changed")
	}
	for _, addr := range []netip.Addr{{}, netip.MustParseAddr("::ffff:10.9.0.1"), netip.MustParseAddr("fe80::1%eth0")} {
		if err := f.ReleaseAddress(t.Context(), id, addr); !errors.Is(err, ErrInvalid) {
			t.Errorf("release %s: %v: want ErrInvalid", addr, err)
		}
	}
}

// TestReclaimableAddress: a container that comes back after Docker was killed requests its address by name, which is
// still held on behalf of the endpoint that Docker has forgotten.
func TestReclaimableAddress(t *testing.T) {
	pool, reclaimable := netip.MustParsePrefix("10.9.0.0/24"), netip.MustParseAddr("10.9.0.7")
	unused := func(space string, subnet netip.Prefix, addr netip.Addr, since time.Time) bool {
		return space == LocalSpace && subnet == pool && addr == reclaimable && !since.IsZero()
	}
	f := newFixture(t, Options{Reclaimable: unused})
	id := f.subnet("10.9.0.0/24")
	f.address(id, "10.9.0.7", "10.9.0.7/24")
	f.address(id, "10.9.0.8", "10.9.0.8/24")
	f.address(id, "10.9.0.7", "10.9.0.7/24")
	f.refused(id, "10.9.0.8", ErrAddressInUse)
	if n := f.Pools()[0].Used; n != 2 {
		t.Errorf("%d addresses held, want 2", n)
	}
}

// BenchmarkRequestAddress requests and releases an address. Both are on disk before the answer.
func BenchmarkRequestAddress(b *testing.B) {
	f := newFixture(b, Options{})
	id := f.subnet("10.9.0.0/16")
	for b.Loop() {
		got, err := f.RequestAddress(b.Context(), id, netip.Addr{})
		if err != nil {
			b.Fatal(err)
		}
		if err := f.ReleaseAddress(b.Context(), id, got.Addr()); err != nil {
			b.Fatal(err)
		}
	}
}
