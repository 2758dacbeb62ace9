// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/store"
)

// TestRestartChangesNothing makes the same calls with and without restarts in between.
func TestRestartChangesNothing(t *testing.T) {
	play := func(restart bool) (answers []string) {
		f := newFixture(t, Options{RangeV6: netip.MustParsePrefix("fd00:32::/48")})
		a := f.pool(PoolRequest{}).ID
		b := f.pool(PoolRequest{IPv6: true}).ID
		subnet, pickRange := netip.MustParsePrefix("10.9.0.0/28"), netip.MustParsePrefix("10.9.0.4/30")
		c := f.pool(PoolRequest{Subnet: subnet, Range: pickRange}).ID
		for n := range 60 {
			pool := []PoolID{a, b, c}[n%3]
			owner := []string{"", "", "web", "db", "cache"}[n%5]
			got, err := f.RequestAddressFor(t.Context(), pool, netip.Addr{}, owner)
			answers = append(answers, fmt.Sprint(got, err != nil))
			if n%4 != 0 && err == nil {
				f.release(pool, got.Addr().String())
			}
			if n%10 == 5 {
				answers = append(answers, f.pool(PoolRequest{IPv6: n%20 == 5}).Subnet.String())
			}
			if restart {
				f.restart()
			}
		}
		listing, err := json.Marshal(f.Pools())
		if err != nil {
			t.Fatal(err)
		}
		var pools []Pool
		if err := json.Unmarshal(listing, &pools); err != nil {
			t.Fatal(err)
		}
		for _, p := range pools {
			answers = append(answers, fmt.Sprint(p.ID, p.Used, p.Free))
		}
		return answers
	}
	if diff := cmp.Diff(play(false), play(true)); diff != "" {
		t.Errorf("(-without +with restarts):\n%s", diff)
	}
}

// TestCursorOutlastsRestart: an evicted address is handed out after the addresses that were never used, after a restart
// too.
func TestCursorOutlastsRestart(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("fd00:9::/64")
	p := f.pools[id]
	var changes []store.Change
	for range maxFreed { // as that many requests and releases would leave it
		addr, _ := p.alloc.pickNext()
		put, err := store.Put(p.addressKey(addr), addressRecord{Sequence: p.alloc.sequence})
		if err != nil {
			t.Fatal(err)
		}
		changes = append(changes, put)
		p.alloc.hold(addr, epoch, "")
		p.alloc.release(addr, epoch)
	}
	if err := f.faulty.Apply(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	f.addressFor(id, "web", "fd00:9::1:1/64")
	f.release(id, "fd00:9::1:1") // and fd00:9::1 is evicted
	f.restart()
	f.addressFor(id, "db", "fd00:9::1:2/64")
	used := f.pools[id].alloc.used
	if used(netip.MustParseAddr("fd00:9::1")) || !used(netip.MustParseAddr("fd00:9::2")) {
		t.Error("want fd00:9::1 evicted, and it alone")
	}
}

func TestStoreThatFails(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("10.9.0.0/24")
	f.address(id, "", "10.9.0.1/24")
	full := errors.New("disk full")
	f.faulty.err = full
	ctx := t.Context()
	f.refused(id, "", full)
	f.refused(id, "10.9.0.9", full)
	_, err1 := f.RequestPool(ctx, PoolRequest{Space: LocalSpace})
	_, err2 := f.RequestPool(ctx, PoolRequest{Space: LocalSpace, Subnet: netip.MustParsePrefix("10.10.0.0/24")})
	err3 := f.ReleaseAddress(ctx, id, netip.MustParseAddr("10.9.0.1"))
	err4 := f.ReleasePool(ctx, id)
	_, err5 := f.Forget(ctx, LocalSpace, nil, time.Now().Add(time.Hour))
	_, err6 := f.Forget(ctx, LocalSpace, Known{netip.MustParsePrefix("10.9.0.0/24"): nil}, time.Now().Add(time.Hour))
	for n, err := range []error{err1, err2, err3, err4, err5, err6} {
		if !errors.Is(err, full) {
			t.Errorf("call %d: %v: want %v", n, err, full)
		}
	}
	f.faulty.err = nil
	f.address(id, "", "10.9.0.2/24")
	f.refused(id, "10.9.0.1", ErrAddressInUse)
	if subnet := f.pool(PoolRequest{}).Subnet; subnet.String() != "10.32.0.0/22" {
		t.Errorf("%s: want 10.32.0.0/22", subnet)
	}
	listed := f.Pools()
	f.restart()
	if diff := cmp.Diff(listed, f.Pools(), comparePrefix); diff != "" || len(listed) != 2 {
		t.Errorf("(-before +after restart):\n%s", diff)
	}
}

// TestPoolsOfEarlierVersionsAreLoaded: a pool that is refused today, and addresses as they were recorded before it was
// recorded who had them.
func TestPoolsOfEarlierVersionsAreLoaded(t *testing.T) {
	records := memoryStore{
		"pool/weavelocal/169.254.7.0/24":                `{"created":"2025-01-01T00:00:00Z"}`,
		"address/weavelocal/169.254.7.0/24/169.254.7.1": `{"held":"2025-01-01T00:00:00Z","sequence":0}`,
		"address/weavelocal/169.254.7.0/24/169.254.7.2": `{"sequence":1}`,
		"address/weavelocal/169.254.7.0/24/169.254.7.3": `{"sequence":0}`,
	}
	i, err := loadRecords(t, records)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"169.254.7.2/24", "169.254.7.3/24", "169.254.7.4/24"} {
		got, err := i.RequestAddress(t.Context(), "weavelocal/169.254.7.0/24", netip.Addr{})
		if err != nil || got.String() != want {
			t.Errorf("%s, %v: want %s", got, err, want)
		}
	}
}

func TestLoadRefusesDamage(t *testing.T) {
	for _, c := range []struct{ key, value string }{
		{"pool/weavelocal/10.9.0.0/24", `[]`},
		{"pool/weavelocal/10.9.0.1/24", `{}`},
		{"pool/weavelocal/10.9.0.0", `{}`},
		{"pool/elsewhere/10.9.0.0/24", `{}`},
		{"pool/weavelocal/10.9.0.0/24/10.8.0.0/25", `{}`},
		{"address/weavelocal/10.8.0.0/24/10.8.0.1", `{"held":"2025-01-01T00:00:00Z"}`},
		{"address/weavelocal/10.7.0.0/24/10.9.0.1", `{"held":"2025-01-01T00:00:00Z"}`},
		{"address/weavelocal/10.7.0.0/24/web", `{"held":"2025-01-01T00:00:00Z"}`},
		{"address/weavelocal/10.7.0.0/24/10.7.0.0", `{"sequence":1}`},
		{"address/weavelocal/10.7.0.0/24/10.7.0.1", `{"sequence":-1}`},
		{"address/", `{}`},
		{"range/v6", `{"range":"fc00::/48"`},
		{"range/v6", `{"range":"10.0.0.0/8"}`},
	} {
		f := newFixture(t, Options{})
		f.subnet("10.7.0.0/24")
		if err := f.faulty.Apply(t.Context(), store.Change{Key: c.key, Value: []byte(c.value)}); err != nil {
			t.Fatal(err)
		}
		if err := f.Load(t.Context()); !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), c.key) {
			t.Errorf("%s: %s: %v: want ErrDamaged that names the record", c.key, c.value, err)
		}
	}
}
