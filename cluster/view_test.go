// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weaveplugin/weave/internal/etcdtest"
	"github.com/weaveplugin/weave/store"
)

// viewStore notes which records of the view are written.
type viewStore struct {
	store.Store
	mu      sync.Mutex
	written []string
}

func (s *viewStore) Apply(ctx context.Context, changes ...store.Change) error {
	s.mu.Lock()
	for _, ch := range changes {
		if key, ok := strings.CutPrefix(ch.Key, viewEndpointPrefix); ok {
			s.written = append(s.written, key[strings.LastIndex(key, "/")+1:])
		}
	}
	s.mu.Unlock()
	return s.Store.Apply(ctx, changes...)
}

// take returns the endpoints whose records were written since the last call, sorted.
func (s *viewStore) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Sorted(slices.Values(s.written))
	s.written = nil
	return out
}

// TestViewWritesWhatHasChanged: of what other hosts have, only the records are written that are other ones now, also
// when weave starts again and reads everything anew.
func TestViewWritesWhatHasChanged(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	written := &viewStore{}
	a := newHost(t, 1, etcd.URLs(), func(o *Options) { written.Store, o.Store = o.Store, written }).start()
	b := newHost(t, 2, etcd.URLs(), nil).start()
	a.join(app())
	b.join(app())
	awaitWritten := func(want ...string) {
		t.Helper()
		var all []string
		a.await("the view is written", func() bool {
			all = append(all, written.take()...)
			return len(all) >= len(want)
		})
		if slices.Sort(all); !slices.Equal(all, want) {
			t.Errorf("records of %v were written, want %v", all, want)
		}
	}
	b.SetEndpoints([]Endpoint{endpoint("app", 2), endpoint("app", 3), endpoint("app", 4)})
	awaitWritten("e2", "e3", "e4")
	renamed := endpoint("app", 4)
	renamed.ContainerName = "other"
	b.SetEndpoints([]Endpoint{endpoint("app", 3), renamed})
	awaitWritten("e2", "e4")
	a.end()
	b.SetEndpoints([]Endpoint{endpoint("app", 3), renamed, endpoint("app", 5)})
	a.start()
	awaitWritten("e5")
	if err := a.Leave(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	awaitWritten("e3", "e4", "e5")
}

// TestHostsConcernNetworks: a network has changed when hosts come, go or move on which it has endpoints, and no other.
// Whoever follows the hosts themselves hears of each that comes, goes or moves.
func TestHostsConcernNetworks(t *testing.T) {
	t.Parallel()
	h := newHost(t, 1, []string{"http://192.0.2.1:2379"}, nil) // it does not run
	c, err := Open(t.Context(), h.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	there := func(id, vtep string) func() {
		return func() { c.hosts[id] = Host{ID: id, VTEP: netip.MustParseAddr(vtep)} }
	}
	for network, host := range map[string]string{"app": "h2", "other": "h3"} {
		c.networks[network] = newMembership(Network{Name: network})
		c.networks[network].remotes["e"] = Endpoint{Host: host}
	}
	all := slices.Sorted(maps.Keys(c.networks))
	for _, step := range []struct {
		what   string
		change func()
		want   []string
		told   bool
	}{
		{"hosts are known", func() { c.hostsRead = true }, all, true},
		{"one comes", there("h2", "192.0.2.2"), []string{"app"}, true},
		{"one comes that has nothing there", there("h4", "192.0.2.4"), nil, true},
		{"one is written again", there("h2", "192.0.2.2"), nil, false},
		{"one has moved", there("h2", "192.0.2.22"), []string{"app"}, true},
		{"one goes", func() { delete(c.hosts, "h2") }, []string{"app"}, true},
		{"one goes that has nothing there", func() { delete(c.hosts, "h4") }, nil, true},
		{"one may come back", func() { c.holders["h3"] = Host{ID: "h3"} }, nil, false},
		{"all are read again", func() { clear(c.hosts); there("h3", "192.0.2.3")() }, []string{"other"}, true},
	} {
		c.changeHosts(step.change)
		if told := len(c.Changed()) > 0; told != step.told {
			t.Errorf("%s: told %v, want %v", step.what, told, step.told)
		}
		select {
		case <-c.Changed():
		default:
		}
		if got := c.TakeChanged(); !slices.Equal(got, step.want) {
			t.Errorf("%s: networks %v have changed, want %v", step.what, got, step.want)
		}
	}
}
