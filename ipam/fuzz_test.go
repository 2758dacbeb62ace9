// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/prefix"
	"github.com/weaveplugin/weave/store"
)

// FuzzParsePoolID parses any text: it is refused, or is exactly the id of the pool that it names, whose range is within
// its subnet.
func FuzzParsePoolID(f *testing.F) {
	for _, s := range []string{
		"weavelocal/10.9.0.0/24", "weaveglobal/fd00:32::/64/fd00:32::8000/113", "weavelocal/10.9.0.0/24/10.9.1.0/25",
		"weavelocal/::ffff:10.9.0.0/120", "weavelocal/10.9.0.1/24", "weavelocal/10.9.0.0/024", "weavelocal//",
		"a/b/c/d/e",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id := PoolID(text)
		p, err := parsePoolID(id)
		if err != nil {
			return
		}
		if p.id() != id {
			t.Errorf("id %q reads as %q", id, p.id())
		}
		r := p.pickRange
		if p.subnet != p.subnet.Masked() || r.IsValid() && (r != r.Masked() || !p.subnet.Contains(prefix.Last(r))) {
			t.Errorf("id %q: subnet %s, range %s", id, p.subnet, r)
		}
		p.open(poolRecord{})
		if addr, ok := p.alloc.pickNext(); ok && p.check(addr) != nil {
			t.Errorf("id %q: picks %s: %v", id, addr, p.check(addr))
		}
	})
}

// FuzzRecords loads any records. They are refused as damaged, or the state is sound: no address that a record says is
// held is handed out, those that are handed out are the requested ones and of the pool, and the records that are
// written then can be loaded again.
func FuzzRecords(f *testing.F) {
	const held = `{"held":"2026-01-01T00:00:00Z","sequence":0}`
	f.Add("weavelocal/10.9.0.0/29", `{"created":"2026-01-01T00:00:00Z","cursor":"10.9.0.6"}`,
		"10.9.0.1", held, "v6", `{"range":"fd12:3456:789a::/48"}`, "")
	f.Add("weavelocal/10.9.0.0/30", `{"cursor":"fd00::1"}`,
		"10.9.0.2", `{"sequence":18446744073709551615}`, "v4", `{"next":"10.47.255.0"}`, "10.9.0.2")
	f.Add("weaveglobal/fd00:32::/64/fd00:32::8000/113", `{}`, "fd00:32::1", held, "v4", `{}`, "fd00:32::1")
	f.Add("weavelocal/10.9.0.0/31", `null`, "10.9.0.0", held, "v6", `{"range":"fd00::/8"}`, "10.9.0.1")
	f.Add("weavelocal/10.0.0.0/8", `{}`, "10.9.0.1", held, "v4", `{"next":"::1"}`, "fe80::1%eth0")
	f.Add("x", `[]`, "y", `0`, "z", `"`, "10.9.0.1/24")
	f.Fuzz(func(t *testing.T, id, pool, address, holder, family, subnets, request string) {
		cut := strings.Split(id, "/")
		key := addressPrefix + strings.Join(cut[:min(len(cut), 3)], "/") + "/" + address
		records := memoryStore{poolPrefix + id: pool, key: holder, rangePrefix + family: subnets}
		i, err := loadRecords(t, records)
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("error %v, want ErrDamaged", err)
			}
			return
		}
		p := i.pools[PoolID(id)]
		held := p.alloc.held[netip.MustParseAddr(address)]
		want, _ := netip.ParseAddr(request)
		for range 3 {
			got, err := i.RequestAddress(t.Context(), p.id(), want)
			switch {
			case err != nil:
				checkKind(t, err, ErrInvalid, ErrForeignAddress, ErrAddressInUse, ErrPoolExhausted)
			case got.Addr().String() == address && !held.IsZero() && p.space == LocalSpace:
				t.Errorf("%s is handed out although it is held", address)
			default:
				checkHandedOut(t, p, got, want)
			}
			want = netip.Addr{} // then any
		}
		pools := 2
		if _, err := i.RequestPool(t.Context(), PoolRequest{Space: LocalSpace}); err != nil {
			checkKind(t, err, ErrPoolExhausted)
			pools = 1
		}
		again, err := loadRecords(t, records)
		if err != nil {
			t.Fatalf("load again: %v", err)
		}
		got, all := again.Addresses(p.id()), i.Addresses(p.id())
		same := func(a, b Address) bool { return a.Address == b.Address && a.Since.Equal(b.Since) }
		if !slices.EqualFunc(got, all, same) || len(again.pools) != pools {
			t.Errorf("after a restart %d pools, held %v; want %d and %v", len(again.pools), got, pools, all)
		}
	})
}

func loadRecords(t *testing.T, records memoryStore) (*IPAM, error) {
	t.Helper()
	i, err := New(Options{Store: records, Log: quiet(), Routes: noRoutes})
	if err != nil {
		t.Fatal(err)
	}
	return i, i.Load(t.Context())
}

// FuzzRequestPool requests any pool, and any address of it: bad ones are refused with an error of a kind, good ones
// are what was requested.
func FuzzRequestPool(f *testing.F) {
	f.Add(LocalSpace, "10.9.0.0/24", "10.9.0.128/25", false, 0, "10.9.0.1")
	f.Add(GlobalSpace, "fd00:9::/64", "", false, 0, "")
	f.Add(LocalSpace, "", "", true, 80, "fd00::1%eth0")
	f.Add(LocalSpace, "", "", false, 31, "::ffff:10.32.0.1")
	f.Add(LocalSpace, "255.255.255.255/32", "10.9.0.1/24", false, 0, "")
	f.Add("LocalDefault", "::ffff:10.9.0.0/120", "fd00::/8", true, -1, "")
	i, err := New(Options{Store: memoryStore{}, Log: quiet(), Routes: noRoutes})
	if err != nil {
		f.Fatal(err)
	}
	if err := i.Load(f.Context()); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, space, subnet, pickRange string, v6 bool, bits int, address string) {
		r := PoolRequest{Space: space, IPv6: v6, Bits: bits}
		r.Subnet, _ = netip.ParsePrefix(subnet)
		r.Range, _ = netip.ParsePrefix(pickRange)
		p, err := i.RequestPool(t.Context(), r)
		if err != nil {
			checkKind(t, err, ErrInvalid)
			return
		}
		defer func() {
			if err := i.ReleasePool(t.Context(), p.ID); err != nil || len(i.Pools()) != 0 {
				t.Errorf("release %s: %v, left %v", p.ID, err, i.Pools())
			}
		}()
		if r.Subnet.IsValid() && (p.Subnet != r.Subnet || p.Range != r.Range) ||
			!r.Subnet.IsValid() && p.Subnet.Addr().Is6() != v6 || !Usable(p.Subnet) {
			t.Errorf("request %+v: pool %+v", r, p)
		}
		want, _ := netip.ParseAddr(address)
		got, err := i.RequestAddress(t.Context(), p.ID, want)
		if err != nil {
			checkKind(t, err, ErrInvalid, ErrForeignAddress)
			return
		}
		checkHandedOut(t, i.pools[p.ID], got, want)
	})
}

// checkKind fails the test if the error is of none of the kinds.
func checkKind(t *testing.T, err error, kinds ...error) {
	t.Helper()
	if !slices.ContainsFunc(kinds, func(kind error) bool { return errors.Is(err, kind) }) {
		t.Errorf("error %v, want one of %q", err, kinds)
	}
}

// checkHandedOut fails the test if got is not an address of the pool with the subnet's length, or not want, unless that
// is zero.
func checkHandedOut(t *testing.T, p *pool, got netip.Prefix, want netip.Addr) {
	t.Helper()
	if got.Masked() != p.subnet || want.IsValid() && got.Addr() != want {
		t.Errorf("address %s of pool %s, want %s", got, p.id(), want)
	}
	if err := p.check(got.Addr()); err != nil {
		t.Errorf("address %s of pool %s: %v", got.Addr(), p.id(), err)
	}
}
