package ipam

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"path/filepath"
	"testing"

	docker "github.com/docker/go-plugins-helpers/ipam"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/store"
)

// fixture is an IPAM on a state in a file.
type fixture struct {
	*IPAM
	t       testing.TB
	path    string
	options Options
	faulty  *faultyStore
}

// faultyStore refuses changes while it is told to, and counts them.
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
	log := logrus.New()
	log.SetOutput(io.Discard)
	o.Log = logrus.NewEntry(log)
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

// pool requests a pool and returns its id and subnet.
func (f *fixture) pool(r docker.RequestPoolRequest) (id, subnet string) {
	f.t.Helper()
	if r.AddressSpace == "" {
		r.AddressSpace = LocalSpace
	}
	got, err := f.RequestPool(f.t.Context(), &r)
	if err != nil {
		f.t.Fatal(err)
	}
	return got.PoolID, got.Pool
}

func (f *fixture) subnet(subnet string) (id string) {
	f.t.Helper()
	id, _ = f.pool(docker.RequestPoolRequest{Pool: subnet})
	return id
}

func (f *fixture) request(pool, address string) (string, error) {
	got, err := f.RequestAddress(f.t.Context(), &docker.RequestAddressRequest{PoolID: pool, Address: address})
	if err != nil {
		return "", err
	}
	return got.Address, nil
}

// address requests an address, which must be want.
func (f *fixture) address(pool, address, want string) {
	f.t.Helper()
	if got, err := f.request(pool, address); err != nil || got != want {
		f.t.Errorf("address %q of %s: %q, %v: want %s", address, pool, got, err, want)
	}
}

func (f *fixture) refused(pool, address string, want error) {
	f.t.Helper()
	if got, err := f.request(pool, address); !errors.Is(err, want) {
		f.t.Errorf("address %q of %s: %q, %v: want %v", address, pool, got, err, want)
	}
}

func (f *fixture) release(pool, address string) {
	f.t.Helper()
	if err := f.ReleaseAddress(f.t.Context(), &docker.ReleaseAddressRequest{PoolID: pool, Address: address}); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) releasePool(pool string) {
	f.t.Helper()
	if err := f.ReleasePool(f.t.Context(), &docker.ReleasePoolRequest{PoolID: pool}); err != nil {
		f.t.Error(err)
	}
}
