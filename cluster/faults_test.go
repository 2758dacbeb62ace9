// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// relay passes connections on to etcd until it is cut.
type relay struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	conns []net.Conn
}

func newRelay(t *testing.T, url string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, to: strings.TrimPrefix(url, "http://")}
	t.Cleanup(func() { l.Close(); r.setCut(true) })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			r.pass(from)
		}
	}()
	return r
}

func (r *relay) url() string { return "http://" + r.listener.Addr().String() }

func (r *relay) pass(from net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	to, err := net.Dial("tcp", r.to)
	if r.cut || err != nil {
		from.Close()
		return
	}
	r.conns = append(r.conns, from, to)
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1]) // its end closes both
			pair[0].Close()
			pair[1].Close()
		}()
	}
}

func (r *relay) setCut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// TestCompaction: a host that was cut off while etcd compacted what happened meanwhile misses nothing of it.
func TestCompaction(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	a, b := newHost(t, 1, etcd.URLs(), nil).start(), newHost(t, 2, []string{r.url()}, nil).start()
	a.join(app())
	b.join(app())
	a.SetEndpoints([]Endpoint{endpoint("app", 2), endpoint("app", 3)})
	b.awaitRemotes("app", "e2", "e3")
	r.setCut(true)
	a.SetEndpoints([]Endpoint{endpoint("app", 3), endpoint("app", 4)})
	watcher := newHost(t, 3, etcd.URLs(), nil).start()
	watcher.join(app())
	watcher.awaitRemotes("app", "e3", "e4")
	client := etcd.Client(t)
	now, err := client.Get(t.Context(), "any")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), now.Header.Revision); err != nil {
		t.Fatal(err)
	}
	r.setCut(false)
	b.awaitRemotes("app", "e3", "e4")
}

// TestEtcdAway: while etcd is away a host keeps what it has seen and what it holds, and says what it can't do. It
// goes on when etcd is back.
func TestEtcdAway(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startMembers(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	b.awaitRemotes("app", "e2")
	etcd.Kill(t, 0)
	b.await("problem", func() bool { return b.Unreachable() != nil })
	ctx, cancel := context.WithTimeout(t.Context(), callTime/5)
	defer cancel()
	if _, err := b.Join(ctx, Network{Name: "other"}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("join without etcd: %v, want ErrUnreachable", err)
	}
	if err := b.Leave(t.Context(), "app"); err != nil { // docker network rm works all the same
		t.Errorf("leave without etcd: %v", err)
	}
	a.SetEndpoints([]Endpoint{endpoint("app", 2), endpoint("app", 3)})
	etcd.Restart(t, 0)
	c := newHost(t, 3, etcd.URLs(), nil).start()
	c.join(app())
	c.awaitRemotes("app", "e2", "e3")
	for _, h := range hosts {
		h.await("end of the problems", func() bool { return len(h.Problems()) == 0 && h.Unreachable() == nil })
	}
	c.await("one member less", func() bool {
		return len(keysBelow(t, etcd, "weave/members/app/")) == 2
	})
}

// TestShortOutage: what etcd could not be told while it was away it is told soon after, also if no lease has run out
// meanwhile, and then nothing is said to be wrong.
func TestShortOutage(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	a := newHost(t, 1, etcd.URLs(), func(o *Options) { o.Lease = time.Minute }).start()
	a.join(app())
	etcd.Kill(t, 0)
	if err := a.Leave(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	a.await("problem", func() bool { return strings.Contains(strings.Join(a.Problems(), "\n"), keeping) })
	etcd.Restart(t, 0)
	a.await("end of the problems", func() bool { return len(a.Problems()) == 0 && a.Unreachable() == nil })
	if left := keysBelow(t, etcd, "weave/members/"); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// TestStartWithoutEtcd: weave starts without etcd, with what it had, and is in the cluster when etcd is there.
func TestStartWithoutEtcd(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	a := newHost(t, 1, etcd.URLs(), nil).start()
	nw := a.join(app())
	a.end()
	etcd.Kill(t, 0)
	a.start()
	if h := a.Hosts(); len(h) != 1 || h[0].ID != a.options.Host.ID || h[0].Present {
		t.Errorf("hosts %+v without etcd, want this one, which is not known to be present", h)
	}
	if got, ok := a.Network("app"); !ok || got.VNI != nw.VNI {
		t.Errorf("network without etcd: %+v, %v", got, ok)
	}
	a.SetEndpoints([]Endpoint{endpoint("app", 2)})
	etcd.Restart(t, 0)
	b := newHost(t, 2, etcd.URLs(), nil).start()
	b.join(app())
	b.awaitRemotes("app", "e2")
}

// TestLastView: weave that starts without etcd goes on with what it knew last of other hosts.
func TestLastView(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startMembers(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	b.SetEndpoints([]Endpoint{endpoint("app", 2), endpoint("app", 3)})
	a.awaitRemotes("app", "e2", "e3")
	a.await("the view is written", func() bool {
		records, err := a.options.Store.List(t.Context(), viewPrefix)
		if err != nil {
			t.Fatal(err)
		}
		return len(records) == 3 // the host's, too
	})
	before, _ := a.Contact()
	a.end()
	b.SetEndpoints([]Endpoint{endpoint("app", 3)})
	etcd.Kill(t, 0)
	a.start()
	if last, sinceStart := a.Contact(); sinceStart || last.Before(before) || last.IsZero() {
		t.Errorf("etcd has answered last at %s, since weave's start: %t; want that of before, %s", last, sinceStart,
			before)
	}
	remotes, seen := a.Remotes("app")
	if got := a.remoteIDs("app"); !seen || !slices.Equal(got, []string{"e2", "e3"}) {
		t.Errorf("remote endpoints %v, known: %v, want both as of before", got, seen)
	}
	if len(remotes) > 0 && (remotes[0].VTEP != b.options.Host.VTEP || remotes[0].MAC != endpoint("app", 2).MAC) {
		t.Errorf("remote endpoint %+v", remotes[0])
	}
	etcd.Restart(t, 0)
	a.awaitRemotes("app", "e3")
	if err := a.Leave(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	a.await("nothing of it is left", func() bool {
		records, err := a.options.Store.List(t.Context(), viewEndpointPrefix)
		return err == nil && len(records) == 0
	})
}

// TestLeaderDies: of three members one may be killed or hang, the leader among them.
func TestLeaderDies(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 3)
	hosts := startMembers(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	for i := range 3 {
		etcd.Kill(t, i)
		a.SetEndpoints([]Endpoint{endpoint("app", i+2)})
		b.awaitRemotes("app", fmt.Sprintf("e%d", i+2))
		etcd.Restart(t, i)
	}
	for i := range 3 {
		goOn := etcd.Pause(t, i)
		a.SetEndpoints([]Endpoint{endpoint("app", i+5)})
		b.awaitRemotes("app", fmt.Sprintf("e%d", i+5))
		goOn()
	}
}
