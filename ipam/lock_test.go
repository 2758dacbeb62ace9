// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/store"
)

func TestManyAtOnce(t *testing.T) {
	f := newFixture(t, Options{})
	id := f.subnet("10.9.0.0/24")
	var mu sync.Mutex
	seen := map[any]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				addr, err1 := f.request(id, "")
				p, err2 := f.RequestPool(t.Context(), PoolRequest{Space: LocalSpace})
				if err1 != nil || err2 != nil {
					t.Error(err1, err2)
					return
				}
				f.Pools()
				f.Addresses(id)
				mu.Lock()
				if seen[addr] || seen[p.ID] {
					t.Errorf("%s or %s is handed out twice", addr, p.ID)
				}
				seen[addr], seen[p.ID] = true, true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != 160 {
		t.Errorf("%d answers: want 160", len(seen))
	}
}

// gate is where a call waits once it is shut, until it is opened.
type gate struct{ opened chan struct{} }

func (g *gate) shut() { g.opened = make(chan struct{}) }
func (g *gate) open() { close(g.opened) }
func (g *gate) pass() {
	if g.opened != nil {
		<-g.opened
	}
}

// gatedStore is a store whose disk does not answer while its gate is shut.
type gatedStore struct {
	memoryStore
	gate *gate
}

func (s gatedStore) Apply(ctx context.Context, changes ...store.Change) error {
	s.gate.pass()
	return s.memoryStore.Apply(ctx, changes...)
}

// TestHangingWriter checks, while one call that changes the state hangs, that listings answer at once, and that every
// other call that changes the state gives up with its context and changes nothing.
func TestHangingWriter(t *testing.T) {
	for _, where := range []string{"disk", "Reclaimable"} {
		t.Run(where, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { checkHangingWriter(t, where) }) })
	}
}

func checkHangingWriter(t *testing.T, where string) {
	gates := map[string]*gate{"disk": {}, "Reclaimable": {}}
	records := memoryStore{}
	reclaimable := func(string, netip.Prefix, netip.Addr, time.Time) bool {
		gates["Reclaimable"].pass()
		return true
	}
	i, err := New(Options{
		Store: gatedStore{records, gates["disk"]}, Log: quiet(), Routes: noRoutes, Reclaimable: reclaimable,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	subnet, held := netip.MustParsePrefix("10.9.0.0/24"), netip.MustParseAddr("10.9.0.1")
	p, err := i.RequestPool(t.Context(), PoolRequest{Space: LocalSpace, Subnet: subnet})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.RequestAddress(t.Context(), p.ID, held); err != nil {
		t.Fatal(err)
	}
	pools, keys := i.Pools(), slices.Sorted(maps.Keys(records))

	gates[where].shut()
	ended := make(chan error, 1)
	go func() {
		_, err := i.RequestAddress(t.Context(), p.ID, held) // it is held, and is reclaimed
		ended <- err
	}()
	synctest.Wait() // until it hangs

	if diff := cmp.Diff(pools, i.Pools(), comparePrefix); diff != "" {
		t.Errorf("pools (-before +now):\n%s", diff)
	}
	if a := i.Addresses(p.ID); len(a) != 1 || a[0].Address != held {
		t.Errorf("addresses %v, want %s", a, held)
	}
	for call, err := range callsThatWait(t, i, p.ID, held) {
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for another change") {
			t.Errorf("%s: error %v, want the deadline, and what was waited for", call, err)
		}
	}

	gates[where].open()
	if err := <-ended; err != nil {
		t.Errorf("the call that hung: %v", err)
	}
	if diff := cmp.Diff(pools, i.Pools(), comparePrefix); diff != "" {
		t.Errorf("pools (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(records))); diff != "" {
		t.Errorf("records (-before +after):\n%s", diff)
	}
	if err := i.ReleasePool(t.Context(), p.ID); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

// callsThatWait makes each call that changes the state, with a second to do it, and returns their errors.
func callsThatWait(t *testing.T, i *IPAM, id PoolID, held netip.Addr) map[string]error {
	t.Helper()
	errs := map[string]error{}
	for call, fn := range map[string]func(context.Context) error{
		"RequestPool": func(ctx context.Context) error {
			_, err := i.RequestPool(ctx, PoolRequest{Space: LocalSpace})
			return err
		},
		"RequestAddress": func(ctx context.Context) error {
			_, err := i.RequestAddress(ctx, id, netip.Addr{})
			return err
		},
		"Forget": func(ctx context.Context) error {
			_, err := i.Forget(ctx, LocalSpace, nil, time.Now().Add(time.Hour))
			return err
		},
		"ReleaseAddress": func(ctx context.Context) error { return i.ReleaseAddress(ctx, id, held) },
		"ReleasePool":    func(ctx context.Context) error { return i.ReleasePool(ctx, id) },
		"Load":           i.Load,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		errs[call] = fn(ctx)
		cancel()
	}
	return errs
}
