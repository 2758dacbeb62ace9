// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/internal/etcdtest"
	"github.com/weaveplugin/weave/store"
)

// TestNetworkOfTwoHosts: both see one network and each other's endpoints, and nothing is left of it in etcd when both
// have left it.
func TestNetworkOfTwoHosts(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startHosts(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	made := a.join(app())
	got := b.join(Network{Name: "app", MTU: 1450})
	if diff := cmp.Diff(made, got, cmp.Comparer(sameAddr), cmp.Comparer(samePrefix)); diff != "" {
		t.Errorf("the second host gets (-want +got):\n%s", diff)
	}
	a.SetEndpoints([]Endpoint{endpoint("app", 2), endpoint("app", 3)})
	b.awaitRemotes("app", "e2", "e3")
	remotes, _ := b.Remotes("app")
	if got, want := remotes[0].VTEP, a.options.Host.VTEP; got != want {
		t.Errorf("VTEP %s, want %s", got, want)
	}
	a.SetEndpoints([]Endpoint{endpoint("app", 3)})
	b.awaitRemotes("app", "e3")
	a.SetEndpoints(nil)
	b.awaitRemotes("app")
	for _, h := range hosts {
		if err := h.Leave(t.Context(), "app"); err != nil {
			t.Error(err)
		}
	}
	if left := keysBelow(t, etcd, "weave/networks", "weave/vnis", "weave/members", "weave/blocks"); len(left) > 0 {
		t.Errorf("left in etcd: %q", left)
	}
}

func sameAddr(a, b netip.Addr) bool     { return a == b }
func samePrefix(a, b netip.Prefix) bool { return a == b }

func keysBelow(t *testing.T, etcd *etcdtest.Etcd, prefixes ...string) []string {
	t.Helper()
	c := &Cluster{client: etcd.Client(t)}
	var out []string
	for _, prefix := range prefixes {
		records, _, err := c.list(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			out = append(out, r.key)
		}
	}
	return out
}

// TestAnotherSubnet: a network has the same subnets and gateways on all hosts.
func TestAnotherSubnet(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 2, etcdtest.Start(t, 1))
	v4, v6 := app().Subnets[:1], app().Subnets[1:]
	hosts[0].join(Network{Name: "app", Subnets: v4})
	other := netip.MustParsePrefix("10.33.0.0/22")
	gateway := netip.MustParseAddr("10.32.0.9")
	for name, tt := range map[string]struct {
		subnets []Subnet
		want    []string // in the error; none: it is joined
	}{
		"the same":        {v4, nil},
		"another subnet":  {[]Subnet{{Subnet: other}}, []string{other.String(), v4[0].String()}},
		"another gateway": {[]Subnet{{v4[0].Subnet, gateway}}, []string{gateway.String(), v4[0].String()}},
		"another family":  {v6, nil},
	} {
		_, err := hosts[1].Join(t.Context(), Network{Name: "app", Subnets: tt.subnets})
		if (err == nil) != (tt.want == nil) || err != nil && !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it to name %s", name, err, want)
			}
		}
	}
	// When nobody is on it any more, it can be made with any subnet.
	for _, h := range hosts {
		if err := h.Leave(t.Context(), "app"); err != nil {
			t.Fatal(err)
		}
	}
	hosts[1].join(Network{Name: "app", Subnets: []Subnet{{Subnet: other}}})
}

// TestMTUInCommon: a host's MTU is that of the largest network that it has endpoints on and that this host is on.
func TestMTUInCommon(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 2, etcdtest.Start(t, 1))
	a, b := hosts[0], hosts[1]
	for i, name := range []string{"small", "large", "largest", "apart"} {
		nw := Network{Name: name, MTU: 1400 + i}
		if b.join(nw); name != "apart" {
			a.join(nw)
		}
	}
	mtus := func(h *host) (out [2]int) {
		for i, s := range h.Hosts() {
			out[i] = s.MTU
		}
		return out
	}
	a.await("the other host", func() bool { return len(a.Hosts()) == 2 })
	if got, want := mtus(a), [2]int{1402, 0}; got != want {
		t.Errorf("MTUs %v before there are endpoints, want %v", got, want)
	}
	b.SetEndpoints([]Endpoint{endpoint("small", 1), endpoint("large", 2), endpoint("apart", 3)})
	a.await("MTU in common", func() bool { return mtus(a)[1] == 1401 })
	for range 50 { // networks come in any order
		if got, want := mtus(a), [2]int{1402, 1401}; got != want {
			t.Fatalf("MTUs %v, want %v", got, want)
		}
	}
	if got, want := mtus(b), [2]int{0, 1403}; got != want {
		t.Errorf("MTUs %v on the other host, want %v", got, want)
	}
}

// TestHostDies: a host that does not answer any more goes with its endpoints when its lease runs out, and is there with
// them again as soon as it is back.
func TestHostDies(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startMembers(t, 2, etcd)
	a, b := hosts[0], hosts[1]
	a.SetEndpoints([]Endpoint{endpoint("app", 2), endpoint("app", 3)})
	b.awaitRemotes("app", "e2", "e3")
	b.SetEndpoints([]Endpoint{endpoint("app", 4)})
	if h := b.Hosts(); h[0].Endpoints != 2 || h[1].Endpoints != 1 || !h[0].GoneSince.IsZero() {
		t.Errorf("hosts %+v, want two endpoints on the first and one on the second", h)
	}
	died := time.Now()
	a.end()
	b.awaitRemotes("app")
	b.await("host that may come back", func() bool {
		hosts := b.Hosts()
		return len(hosts) == 2 && !hosts[0].Present && hosts[1].Present
	})
	if got := b.Hosts()[0].GoneSince; got.Before(died) || got.After(time.Now()) {
		t.Errorf("gone since %s, want a time after its end at %s", got, died)
	}
	if got, known := b.VTEPs(); !known || !slices.Contains(got, a.options.Host.VTEP) {
		t.Errorf("addresses of hosts %v, want that of the one that may come back, too", got)
	}
	late := newHost(t, 3, etcd.URLs(), nil).start()
	late.await("all hosts", func() bool { return len(late.Hosts()) == 3 && late.Hosts()[1].Present })
	if h := late.Hosts()[0]; h.Present || !h.GoneSince.IsZero() {
		t.Errorf("%+v, want a host that went at a time that is not known", h)
	}
	a.start()
	a.SetEndpoints([]Endpoint{endpoint("app", 3)})
	b.awaitRemotes("app", "e3")
	if h := b.Hosts()[0]; !h.Present || !h.GoneSince.IsZero() {
		t.Errorf("%+v, want a host that is back", h)
	}
	if nw, ok := a.Network("app"); !ok || nw.VNI == 0 {
		t.Errorf("the network after a restart: %+v, %v", nw, ok)
	}
}

// TestQuickRestart: weave that is started again within its lease is not missed, and what has gone meanwhile goes.
func TestQuickRestart(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	long := func(o *Options) { o.Lease = waitTime * 10 }
	a, b := newHost(t, 1, etcd.URLs(), long).start(), newHost(t, 2, etcd.URLs(), nil).start()
	a.join(app())
	b.join(app())
	a.SetEndpoints([]Endpoint{endpoint("app", 2), endpoint("app", 3)})
	b.awaitRemotes("app", "e2", "e3")
	a.end()
	a.start()
	a.SetEndpoints([]Endpoint{endpoint("app", 3)})
	b.awaitRemotes("app", "e3")
}

// TestCopiedState: two machines can't be the same host, also when the disk was copied while weave ran. The one that is
// there stays, and the other hands out nothing.
func TestCopiedState(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	a := newHost(t, 1, []string{r.url()}, nil).start()
	a.join(app())
	a.join(Network{Name: "other"})
	claim := claimOf(app().Subnets[0].Subnet.String())
	block, err := a.ClaimBlock(t.Context(), claim)
	if err != nil {
		t.Fatal(err)
	}
	a.await("presence", func() bool { return len(a.Hosts()) == 1 && a.Hosts()[0].Present })
	copied := newHost(t, 1, etcd.URLs(), func(o *Options) {
		o.Host.VTEP, o.Store = netip.MustParseAddr("192.0.2.99"), copyStore(t, a.options.Store)
	}).start()
	displaced := func(h *host) bool {
		h.t.Helper()
		h.await("refusal", func() bool { return strings.Contains(strings.Join(h.Problems(), ""), "has the id") })
		return !h.Holds("app", block.Addr()) && len(h.Blocks("app")) == 0
	}
	if !displaced(copied) {
		t.Errorf("the copy hands out %v", copied.Blocks("app"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), callTime/5)
	defer cancel()
	if _, err := copied.ClaimBlock(ctx, claim); !errors.Is(err, ErrUnreachable) {
		t.Errorf("the copy claims: %v, want an error", err)
	}
	if err := copied.Leave(t.Context(), "other"); err != nil {
		t.Error(err)
	}
	if got := keysBelow(t, etcd, "weave/members/other/"); len(got) != 1 {
		t.Errorf("members %q after the copy has left, want the first host", got)
	}
	if h := a.Hosts(); len(h) != 1 || h[0].VTEP != a.options.Host.VTEP || !a.Holds("app", block.Addr()) {
		t.Errorf("hosts %+v, want the first alone, which holds %s", h, block)
	}

	// It is the other way round when the first is away for longer than its lease.
	r.setCut(true)
	copied.await("what it holds", func() bool { return copied.Holds("app", block.Addr()) })
	r.setCut(false)
	if !displaced(a) {
		t.Errorf("both hand out %s", block)
	}
	copied.end()
	a.await("what it holds", func() bool { return a.Holds("app", block.Addr()) && len(a.Problems()) == 0 })
}

// copyStore returns a copy of all records, as a snapshot of a disk has them.
func copyStore(t *testing.T, from store.Store) store.Store {
	t.Helper()
	to, err := store.OpenBolt(t.Context(), filepath.Join(t.TempDir(), "copy.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = to.Close() })
	records, err := from.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var all []store.Change
	for _, r := range records {
		all = append(all, store.Change(r))
	}
	if err := to.Apply(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	return to
}
