// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// TestHold: addresses that endpoints have are held, in pools that are there, and stay so over a restart.
func TestHold(t *testing.T) {
	f := newFixture(t, Options{})
	subnet := netip.MustParsePrefix("10.40.0.0/29")
	pool, err := f.RequestPool(t.Context(), PoolRequest{Space: LocalSpace, Subnet: subnet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.RequestPool(t.Context(), PoolRequest{Space: GlobalSpace, Subnet: subnet}); err != nil {
		t.Fatal(err)
	}
	first, err := f.RequestAddress(t.Context(), pool.ID, netip.Addr{})
	if err != nil || first.String() != "10.40.0.1/29" {
		t.Fatal(first, err)
	}
	freed, err := f.RequestAddress(t.Context(), pool.ID, netip.MustParseAddr("10.40.0.4"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.ReleaseAddress(t.Context(), pool.ID, freed.Addr()); err != nil {
		t.Fatal(err)
	}
	var in []netip.Prefix
	for _, a := range []string{
		"10.40.0.1/29", // held already
		"10.40.0.2/29", "10.40.0.2/29", "10.40.0.4/29",
		"10.40.0.0/29", "10.40.0.7/29", // no endpoint's
		"10.41.0.2/29", "10.40.0.3/24", "fe80::1/64", // of no pool
	} {
		in = append(in, netip.MustParsePrefix(a))
	}
	f.faulty.err = errors.New("disk full")
	if got, err := f.Hold(t.Context(), LocalSpace, in); !errors.Is(err, f.faulty.err) || len(got) != 0 {
		t.Errorf("%v, %v, want the store's error and nothing held", got, err)
	}
	f.faulty.err = nil
	got, err := f.Hold(t.Context(), LocalSpace, in)
	slices.SortFunc(got, netip.Prefix.Compare)
	want := []netip.Prefix{netip.MustParsePrefix("10.40.0.2/29"), netip.MustParsePrefix("10.40.0.4/29")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	before := f.faulty.applied
	if got, err := f.Hold(t.Context(), LocalSpace, in); err != nil || len(got) != 0 || f.faulty.applied != before {
		t.Errorf("again: %v, %v, want nothing to do", got, err)
	}
	f.stop()
	f.start()
	for _, want := range []string{"10.40.0.3/29", "10.40.0.5/29", "10.40.0.6/29"} {
		if got, err := f.RequestAddress(t.Context(), pool.ID, netip.Addr{}); err != nil || got.String() != want {
			t.Errorf("next address %s, %v, want %s", got, err, want)
		}
	}
	if got, err := f.RequestAddress(t.Context(), pool.ID, netip.Addr{}); !errors.Is(err, ErrPoolExhausted) {
		t.Errorf("%s, %v, want ErrPoolExhausted", got, err)
	}
}

// TestChosenSubnetIsNotInUse: no subnet is chosen that endpoints have although no pool has it.
func TestChosenSubnetIsNotInUse(t *testing.T) {
	f := newFixture(t, Options{InUse: func(_ context.Context, space string) []netip.Prefix {
		if space != LocalSpace {
			return nil
		}
		return []netip.Prefix{netip.MustParsePrefix("10.32.0.7/22"), netip.MustParsePrefix("10.32.4.9/22")}
	}})
	got, err := f.RequestPool(t.Context(), PoolRequest{Space: LocalSpace})
	if err != nil || got.Subnet.String() != "10.32.8.0/22" {
		t.Errorf("%v, %v, want the first subnet that is not in use", got.Subnet, err)
	}
	named := PoolRequest{Space: LocalSpace, Subnet: netip.MustParsePrefix("10.32.0.0/22")}
	if _, err := f.RequestPool(t.Context(), named); err != nil { // as when it is taken up
		t.Errorf("by name: %v", err)
	}
}
