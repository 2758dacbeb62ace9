// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/store"
)

// lateStore is a store whose disk does not answer while its gate is shut. The changes that it then makes end with the
// next of results; those after them succeed.
type lateStore struct {
	memoryStore
	gate    gate
	results []error
}

func (s *lateStore) Apply(_ context.Context, changes ...store.Change) error {
	s.gate.pass() // as bbolt, whose transaction does not end with a context
	if len(s.results) > 0 {
		err := s.results[0]
		s.results = s.results[1:]
		if err != nil {
			return err
		}
	}
	return s.memoryStore.Apply(context.Background(), changes...)
}

// TestGivenUpChange: a call ends with its context while the disk stalls. When the disk answers again, what was
// requested is not there, and what was released is gone; in memory, on the disk, and in an IPAM that is made of the
// records.
func TestGivenUpChange(t *testing.T) {
	failed := errors.New("input/output error")
	const first, other = "weavelocal/10.9.0.0/24", "weavelocal/10.10.0.0/24"
	const held = first + " 10.9.0.1"
	for _, c := range []struct {
		name    string
		call    func(context.Context, *IPAM) error
		results []error // of the changes of the disk
		want    string  // what there is in the end
	}{
		{"any pool", requestPool(""), nil, held},
		{"named pool", requestPool("10.10.0.0/24"), nil, held},
		{"named pool of the global space", requestPoolIn(GlobalSpace, "10.10.0.0/24"), nil, held},
		{"pool, written in vain", requestPool("10.10.0.0/24"), []error{failed}, held},
		{"pool, taken back in vain", requestPool("10.10.0.0/24"), []error{nil, failed}, other + " " + held},
		{"any address", requestAddress("", ""), nil, held},
		{"any address of an owner", requestAddress("", "web"), nil, held},
		{"named address", requestAddress("10.9.0.7", ""), nil, held},
		{"address, written in vain", requestAddress("", ""), []error{failed}, held},
		{"address, taken back in vain", requestAddress("", ""), []error{nil, failed}, held + " 10.9.0.2"},
		{"release of an address", releaseAddress, nil, first},
		{"release of an address, in vain", releaseAddress, []error{failed}, held},
		{"release of a pool", releasePool, nil, ""},
		{"release of a pool, in vain", releasePool, []error{failed}, held},
		{"forget", forgetAll, nil, ""},
		{"forget, in vain", forgetAll, []error{failed}, held},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &lateStore{memoryStore: memoryStore{}}
				i := loadedIPAM(t, s)
				if err := requestPool("10.9.0.0/24")(t.Context(), i); err != nil {
					t.Fatal(err)
				}
				if err := requestAddress("10.9.0.1", "")(t.Context(), i); err != nil {
					t.Fatal(err)
				}
				s.gate.shut()
				s.results = c.results
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				begun := time.Now()
				err := c.call(ctx, i)
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "disk") {
					t.Errorf("error %v, want the deadline, and what was waited for", err)
				}
				if took := time.Since(begun); took != 20*time.Second {
					t.Errorf("it took %s, want 20s", took)
				}
				if got := contents(i); got != held {
					t.Errorf("while the disk stalls there is %q, want %q", got, held)
				}
				s.gate.open()
				synctest.Wait()
				if got := contents(i); got != c.want {
					t.Errorf("in the end there is %q, want %q", got, c.want)
				}
				if again := contents(loadedIPAM(t, s.memoryStore)); again != c.want {
					t.Errorf("on the disk is %q, want %q", again, c.want)
				}
				if err := requestPool("10.99.0.0/24")(t.Context(), i); err != nil {
					t.Errorf("the next call: %v", err)
				}
			})
		})
	}
}

// contents names the pools of an IPAM, each with its addresses.
func contents(i *IPAM) string {
	var out []string
	for _, p := range i.Pools() {
		out = append(out, string(p.ID))
		for _, a := range i.Addresses(p.ID) {
			out = append(out, a.Address.String())
		}
	}
	return strings.Join(out, " ")
}

func loadedIPAM(t *testing.T, s store.Store) *IPAM {
	t.Helper()
	i, err := New(Options{Store: s, Log: quiet(), Routes: noRoutes})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return i
}

func requestPool(subnet string) func(context.Context, *IPAM) error {
	return requestPoolIn(LocalSpace, subnet)
}

func requestPoolIn(space, subnet string) func(context.Context, *IPAM) error {
	return func(ctx context.Context, i *IPAM) error {
		r := PoolRequest{Space: space}
		if subnet != "" {
			r.Subnet = netip.MustParsePrefix(subnet)
		}
		_, err := i.RequestPool(ctx, r)
		return err
	}
}

func requestAddress(address, owner string) func(context.Context, *IPAM) error {
	return func(ctx context.Context, i *IPAM) error {
		_, err := i.RequestAddressFor(ctx, "weavelocal/10.9.0.0/24", addressOf(address), owner)
		return err
	}
}

func releaseAddress(ctx context.Context, i *IPAM) error {
	return i.ReleaseAddress(ctx, "weavelocal/10.9.0.0/24", netip.MustParseAddr("10.9.0.1"))
}

func releasePool(ctx context.Context, i *IPAM) error {
	return i.ReleasePool(ctx, "weavelocal/10.9.0.0/24")
}

func forgetAll(ctx context.Context, i *IPAM) error {
	_, err := i.Forget(ctx, LocalSpace, nil, time.Now().Add(time.Hour))
	return err
}

// TestPanicIsAnError: a defect in a change is an error of its call, and the next call works.
func TestPanicIsAnError(t *testing.T) {
	records := memoryStore{}
	i, err := New(Options{Store: records, Log: quiet(), Routes: noRoutes, Reclaimable: func(
		string, netip.Prefix, netip.Addr, time.Time,
	) bool {
		panic("a defect")
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := requestPool("10.9.0.0/24")(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	named := requestAddress("10.9.0.1", "")
	if err := named(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	before := slices.Sorted(maps.Keys(records))
	if err := named(t.Context(), i); err == nil || !strings.Contains(err.Error(), "a defect") {
		t.Errorf("error %v, want the panic", err)
	}
	if diff := cmp.Diff(before, slices.Sorted(maps.Keys(records))); diff != "" {
		t.Errorf("records (-before +after):\n%s", diff)
	}
	if err := requestAddress("", "")(t.Context(), i); err != nil {
		t.Errorf("the next call: %v", err)
	}
}
