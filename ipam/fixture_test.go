// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/store"
)

// fixture is an IPAM whose state is in a file.
type fixture struct {
	*IPAM
	t       testing.TB
	path    string
	options Options
	faulty  *faultyStore
}

// faultyStore counts the changes. While err is set, it makes none and returns err.
type faultyStore struct {
	store.Store
	err     error
	applied int
}

func (s *faultyStore) Apply(ctx context.Context, changes ...store.Change) error {
	if s.err != nil {
		return s.err
	}
	s.applied++
	return s.Store.Apply(ctx, changes...)
}

func noRoutes(context.Context) ([]netip.Prefix, error) { return nil, nil }

func newFixture(t testing.TB, o Options) *fixture {
	t.Helper()
	o.Log = quiet()
	if o.Routes == nil {
		o.Routes = noRoutes
	}
	f := &fixture{t: t, path: filepath.Join(t.TempDir(), "weave.db"), options: o}
	f.start()
	t.Cleanup(func() { f.stop() })
	return f
}

func (f *fixture) start() {
	f.t.Helper()
	s, err := store.OpenBolt(f.t.Context(), f.path)
	if err != nil {
		f.t.Fatal(err)
	}
	f.faulty = &faultyStore{Store: s}
	f.options.Store = f.faulty
	if f.IPAM, err = New(f.options); err != nil {
		f.t.Fatal(err)
	}
	if err := f.Load(context.Background()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) stop() {
	f.t.Helper()
	if err := f.faulty.Close(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) restart() {
	f.t.Helper()
	f.stop()
	f.start()
}

// pool requests a pool, in the local space unless r says another.
func (f *fixture) pool(r PoolRequest) Pool {
	f.t.Helper()
	if r.Space == "" {
		r.Space = LocalSpace
	}
	p, err := f.RequestPool(f.t.Context(), r)
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// subnet requests a pool of a subnet.
func (f *fixture) subnet(subnet string) PoolID {
	f.t.Helper()
	return f.pool(PoolRequest{Subnet: netip.MustParsePrefix(subnet)}).ID
}

// request requests an address; the empty one is any.
func (f *fixture) request(pool PoolID, address string) (netip.Prefix, error) {
	return f.RequestAddress(f.t.Context(), pool, addressOf(address))
}

// addressOf parses an address; the empty one is zero.
func addressOf(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

// address requests an address, which must be want.
func (f *fixture) address(pool PoolID, address, want string) {
	f.t.Helper()
	if got, err := f.request(pool, address); err != nil || got.String() != want {
		f.t.Errorf("address %q of %s: %s, %v: want %s", address, pool, got, err, want)
	}
}

// addressFor requests any address for an owner, which must be want.
func (f *fixture) addressFor(pool PoolID, owner, want string) {
	f.t.Helper()
	got, err := f.RequestAddressFor(f.t.Context(), pool, netip.Addr{}, owner)
	if err != nil || got.String() != want {
		f.t.Errorf("address for %q of %s: %s, %v: want %s", owner, pool, got, err, want)
	}
}

// refused requests an address, which must fail with want.
func (f *fixture) refused(pool PoolID, address string, want error) {
	f.t.Helper()
	if got, err := f.request(pool, address); !errors.Is(err, want) {
		f.t.Errorf("address %q of %s: %s, %v: want %v", address, pool, got, err, want)
	}
}

func (f *fixture) release(pool PoolID, address string) {
	f.t.Helper()
	if err := f.ReleaseAddress(f.t.Context(), pool, netip.MustParseAddr(address)); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) releasePool(pool PoolID) {
	f.t.Helper()
	if err := f.ReleasePool(f.t.Context(), pool); err != nil {
		f.t.Error(err)
	}
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

var comparePrefix = cmpopts.EquateComparable(netip.Prefix{})

// quiet is a log that nobody reads.
func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}
