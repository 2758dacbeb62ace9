// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/internal/etcdtest"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/store"
)

// waitTime bounds what a test waits for.
const waitTime = 20 * time.Second

// host is a host of a test's cluster.
type host struct {
	*Cluster
	t       testing.TB
	options Options
	end     func() // of Run
}

// newHost returns host n of the cluster that the URLs lead to. It does not run yet.
func newHost(t testing.TB, n int, urls []string, change func(*Options)) *host {
	t.Helper()
	s, err := store.OpenBolt(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	log := logrus.New()
	log.SetOutput(io.Discard)
	h := &host{t: t, options: Options{
		Endpoints: urls, Prefix: DefaultPrefix, Lease: time.Second, Grace: time.Hour, Store: s,
		Log: log.WithField("host", n),
		Host: Host{
			ID: fmt.Sprintf("%016d", n), Name: fmt.Sprintf("host%d", n),
			VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), Since: time.Now().UTC(),
		},
	}}
	if change != nil {
		change(&h.options)
	}
	return h
}

// start starts weave on the host, and stop ends it without a word to etcd.
func (h *host) start() *host {
	h.t.Helper()
	c, err := Open(h.t.Context(), h.options)
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	c.SetEndpoints(nil)
	h.Cluster = c
	h.end = func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Error(err)
		}
		if err := c.Close(); err != nil {
			h.t.Error(err)
		}
		h.end = func() {}
	}
	h.t.Cleanup(func() { h.end() })
	return h
}

func startHosts(t testing.TB, n int, etcd *etcdtest.Etcd) []*host {
	t.Helper()
	var out []*host
	for i := range n {
		out = append(out, newHost(t, i+1, etcd.URLs(), nil).start())
	}
	return out
}

// startMembers starts hosts that are all on the network app.
func startMembers(t testing.TB, n int, etcd *etcdtest.Etcd) []*host {
	t.Helper()
	hosts := startHosts(t, n, etcd)
	for _, h := range hosts {
		h.join(app())
	}
	return hosts
}

// app is a network of two subnets.
func app() Network {
	return Network{Name: "app", MTU: 1450, Subnets: []Subnet{
		{netip.MustParsePrefix("10.32.0.0/22"), netip.MustParseAddr("10.32.0.1")},
		{netip.MustParsePrefix("fd00:32::/64"), netip.MustParseAddr("fd00:32::1")},
	}}
}

func (h *host) join(nw Network) Network {
	h.t.Helper()
	got, err := h.Join(h.t.Context(), nw)
	if err != nil {
		h.t.Fatal(err)
	}
	return got
}

// endpoint returns endpoint n of a network.
func endpoint(network string, n int) Endpoint {
	return Endpoint{
		ID: fmt.Sprintf("e%d", n), Network: network, MAC: mac.Address{2, 0, 0, 0, byte(n >> 8), byte(n)},
		Addresses:     []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, byte(n >> 8), byte(n)}), 22)},
		ContainerName: fmt.Sprintf("c%d", n),
	}
}

// remoteIDs returns the endpoints of a network that a host sees on others, sorted.
func (h *host) remoteIDs(network string) []string {
	remotes, _ := h.Remotes(network)
	ids := []string{}
	for _, r := range remotes {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	return ids
}

// awaitRemotes waits until a host sees just these endpoints on others.
func (h *host) awaitRemotes(network string, want ...string) {
	h.t.Helper()
	h.await(fmt.Sprintf("remote endpoints %v", want), func() bool { return slices.Equal(h.remoteIDs(network), want) })
}

// await waits until something is so, which can become so when a network changes.
func (h *host) await(what string, is func() bool) {
	h.t.Helper()
	limit := time.NewTimer(waitTime)
	defer limit.Stop()
	again := time.NewTicker(20 * time.Millisecond) // for what no change of a network tells
	defer again.Stop()
	for !is() {
		select {
		case <-h.Changed():
			h.TakeChanged()
		case <-again.C:
		case <-limit.C:
			h.t.Fatalf("%s: no %s; remotes %v, problems %q",
				h.options.Host.Name, what, h.remoteIDs("app"), h.Problems())
		}
	}
}
