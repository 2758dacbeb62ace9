package ipam

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	docker "github.com/docker/go-plugins-helpers/ipam"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/store"
)

// FuzzParsePoolID: an id is refused, or is exactly what the pool that it names is known by; and nothing that lies outside
// of a pool is taken for its part.
func FuzzParsePoolID(f *testing.F) {
	for _, s := range []string{
		"weavelocal/10.9.0.0/24", "weaveglobal/fd00:32::/64/fd00:32::8000/113", "weavelocal/10.9.0.0/24/10.9.1.0/25",
		"weavelocal/::ffff:10.9.0.0/120", "weavelocal/10.9.0.1/24", "weavelocal/10.9.0.0/024", "weavelocal//", "a/b/c/d/e",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		p, err := parsePoolID(id)
		if err != nil {
			return
		}
		if p.id() != id {
			t.Errorf("id %q reads as %q", id, p.id())
		}
		if p.subnet != p.subnet.Masked() || p.subPool.IsValid() && (p.subPool != p.subPool.Masked() || !p.subnet.Contains(lastOf(p.subPool))) {
			t.Errorf("id %q: subnet %s, part %s", id, p.subnet, p.subPool)
		}
		p.open(poolRecord{})
		if addr, ok := p.alloc.pick(); ok && p.check(addr) != nil {
			t.Errorf("id %q: picks %s: %v", id, addr, p.check(addr))
		}
	})
}

// memoryStore holds records in memory.
type memoryStore map[string]string

func (s memoryStore) List(_ context.Context, prefix string) (out []store.Record, _ error) {
	for key, value := range s {
		if strings.HasPrefix(key, prefix) {
			out = append(out, store.Record{Key: key, Value: []byte(value)})
		}
	}
	return out, nil
}

func (s memoryStore) Apply(_ context.Context, changes ...store.Change) error {
	for _, c := range changes {
		if c.Value == nil {
			delete(s, c.Key)
		} else {
			s[c.Key] = string(c.Value)
		}
	}
	return nil
}

func (s memoryStore) Close() error { return nil }

// FuzzRecords: whatever the records hold, they are refused as damaged, or the state that they give is sound: it hands out
// no address that a record says is held, the one asked for or another one is of the pool, and the records that it writes
// then are read again.
func FuzzRecords(f *testing.F) {
	const held = `{"held":"2026-01-01T00:00:00Z","sequence":0}`
	f.Add("weavelocal/10.9.0.0/29", `{"created":"2026-01-01T00:00:00Z","cursor":"10.9.0.6"}`, "10.9.0.1", held, "v6", `{"range":"fd12:3456:789a::/48"}`, "")
	f.Add("weavelocal/10.9.0.0/30", `{"cursor":"fd00::1"}`, "10.9.0.2", `{"sequence":18446744073709551615}`, "v4", `{"next":"10.47.255.0"}`, "10.9.0.2")
	f.Add("weaveglobal/fd00:32::/64/fd00:32::8000/113", `{}`, "fd00:32::1", held, "v6", `{"range":"fd00::/8"}`, "fd00:32::1")
	f.Add("weavelocal/10.9.0.0/31", `null`, "10.9.0.0", held, "v4", `{"next":"::1"}`, "10.9.0.1")
	f.Add("x", `[]`, "y", `0`, "z", `"`, "10.9.0.1/24")
	log := logrus.New()
	log.SetOutput(io.Discard)
	f.Fuzz(func(t *testing.T, id, pool, address, holder, family, subnets, request string) {
		cut := strings.Split(id, "/")
		key := addressPrefix + strings.Join(cut[:min(len(cut), 3)], "/") + "/" + address
		records := memoryStore{poolPrefix + id: pool, key: holder, rangePrefix + family: subnets}
		load := func() (*IPAM, error) {
			i, err := New(Options{Store: records, Log: logrus.NewEntry(log), Routes: noRoutes})
			if err != nil {
				t.Fatal(err)
			}
			return i, i.Load(t.Context())
		}
		i, err := load()
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("error %v, want ErrDamaged", err)
			}
			return
		}
		p := i.pools[id]
		before := p.alloc.held[netip.MustParseAddr(address)]
		for range 3 {
			got, err := i.RequestAddress(t.Context(), &docker.RequestAddressRequest{PoolID: id, Address: request})
			if err == nil {
				checkAddress(t, p, got.Address, request)
				if a, _, _ := strings.Cut(got.Address, "/"); a == address && !before.IsZero() {
					t.Errorf("%s is given out although it is held", a)
				}
			} else if !slices.ContainsFunc([]error{ErrInvalid, ErrForeignAddress, ErrAddressInUse, ErrPoolExhausted}, func(kind error) bool { return errors.Is(err, kind) }) {
				t.Errorf("request %q: %v", request, err)
			}
			request = "" // then any
		}
		if _, err := i.RequestPool(t.Context(), &docker.RequestPoolRequest{AddressSpace: LocalSpace}); err != nil {
			t.Errorf("request a pool beside %s: %v", id, err)
		}
		again, err := load()
		if err != nil {
			t.Fatalf("read again: %v", err)
		}
		if len(again.pools) != 2 || len(again.pools[id].alloc.held) != len(p.alloc.held) {
			t.Errorf("%d pools and %d held addresses after a restart, want 2 and %d", len(again.pools), len(again.pools[id].alloc.held), len(p.alloc.held))
		}
	})
}

// checkAddress fails the test if an answer is not an address of the pool with its mask, or not the one asked for.
func checkAddress(t *testing.T, p *pool, answer, request string) {
	t.Helper()
	got, err := netip.ParsePrefix(answer)
	if err != nil || got.Masked() != p.subnet {
		t.Errorf("address %q of pool %s: %v", answer, p.id(), err)
		return
	}
	if want, err := netip.ParseAddr(request); err == nil && got.Addr() != want.Unmap() {
		t.Errorf("address %s, asked for %s", got.Addr(), want)
	}
	if err := p.check(got.Addr()); err != nil {
		t.Errorf("address %s of pool %s: %v", got.Addr(), p.id(), err)
	}
}
