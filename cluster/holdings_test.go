// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestHoldings: who holds what is the same for each host that asks, and nobody knows it while etcd does not answer.
func TestHoldings(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	hosts := startHosts(t, 2, etcd)
	want := map[string][]netip.Prefix{}
	for i, h := range hosts {
		h.join(app())
		block, err := h.ClaimBlock(t.Context(), claimOf(app().Subnets[0].Subnet.String()))
		if err != nil {
			t.Fatal(err)
		}
		single := netip.MustParseAddr([]string{"10.32.2.7", "fd00:32::7"}[i])
		if _, err := h.ClaimAddress(t.Context(), "app", app().Subnets[i].Subnet, single); err != nil {
			t.Fatal(err)
		}
		want[h.id] = []netip.Prefix{block, netip.PrefixFrom(single, single.BitLen())}
	}
	for _, h := range hosts {
		got, err := h.Holdings(t.Context(), "app")
		if diff := cmp.Diff(want, got, cmp.Comparer(samePrefix)); diff != "" || err != nil {
			t.Errorf("%v, holdings (-want +got):\n%s", err, diff)
		}
	}
	etcd.Kill(t, 0)
	if got, err := hosts[0].Holdings(t.Context(), "app"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("without etcd: %v, %v, want ErrUnreachable", got, err)
	}
}

// TestClock: a host whose clock was wrong for a while, or was set while weave did not run, does not take what it holds
// for its own for longer than the grace period.
func TestClock(t *testing.T) {
	t.Parallel()
	const grace, year = 24 * time.Hour, 365 * 24 * time.Hour
	o := newHost(t, 1, nil, nil).options
	load := func() (time.Duration, *holding) {
		h, err := loadHolding(t.Context(), o.Store, DefaultPrefix, grace)
		if err != nil {
			t.Fatal(err)
		}
		left, _, _ := h.runsOut()
		return left, h
	}
	_, h := load()
	if h.hasRunOut() {
		t.Error("it never had anything, and that has run out")
	}
	ahead := time.Now().Add(year) // the clock was so
	if err := h.putLease(t.Context(), heldLease{7, ahead, DefaultPrefix}); err != nil {
		t.Fatal(err)
	}
	left, h := load()
	if left > grace {
		t.Errorf("it believes that it holds for %v", left)
	}
	if err := h.setRuns(t.Context(), 7, grace/2, grace/10); err != nil {
		t.Fatal(err)
	}
	if left, _ = load(); left > grace/2 {
		t.Errorf("after a start it believes that it holds for %v, want at most %v", left, grace/2)
	}
	if err := h.setRuns(t.Context(), 7, -time.Second, grace/10); err != nil || !h.hasRunOut() {
		t.Errorf("it has not run out: %v", err)
	}
}

// TestAnotherPrefix: a host that is started with another prefix leaves the cluster of before, whose keys would never be
// gone otherwise, and has its networks and addresses in the new one.
func TestAnotherPrefix(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	a := newHost(t, 1, etcd.URLs(), func(o *Options) { o.Prefix = "old/" }).start()
	a.join(app())
	block, err := a.ClaimBlock(t.Context(), claimOf(app().Subnets[0].Subnet.String()))
	if err != nil {
		t.Fatal(err)
	}
	a.end()
	a.options.Prefix = "new/"
	a.start()
	a.await("end in the cluster of before", func() bool {
		return len(keysBelow(t, etcd, "old/hosts", "old/holders", "old/members", "old/blocks")) == 0
	})
	want := []string{a.keys.member("app", a.id), a.keys.block("app", app().Subnets[0].Subnet, block)}
	a.await("membership and block in the new one", func() bool {
		return slices.Equal(keysBelow(t, etcd, "new/members", "new/blocks"), want)
	})
	lease := a.holding.lastLease()
	a.end()
	a.start()
	if _, err := a.holding.await(t.Context()); err != nil || a.holding.lastLease() != lease {
		t.Errorf("the next start has another lease, %v", err)
	}
}
