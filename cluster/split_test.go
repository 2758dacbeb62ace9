// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestRestOfABlock: what a host gives back of a block another one can claim, address by address, and what it keeps is
// its own, also after its next start; nothing of that needs etcd at once.
func TestRestOfABlock(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	a := newHost(t, 1, []string{r.url()}, nil).start()
	a.join(app())
	b := newHost(t, 2, etcd.URLs(), nil).start()
	b.join(app())
	subnet := app().Subnets[0].Subnet
	block, err := a.ClaimBlock(t.Context(), claimOf(subnet.String()))
	if err != nil {
		t.Fatal(err)
	}
	kept := []netip.Addr{netip.MustParseAddr("10.32.0.2"), netip.MustParseAddr("10.32.0.7")}
	free := netip.MustParseAddr("10.32.0.3")

	r.setCut(true)
	if ok, err := a.GiveBackRest(t.Context(), "app", block, kept); !ok || err != nil {
		t.Fatal(ok, err)
	}
	owns := func(h *host, addr netip.Addr) bool { return h.Holds("app", addr) }
	check := func(when string) {
		t.Helper()
		if !owns(a, kept[0]) || !owns(a, kept[1]) || owns(a, free) {
			t.Errorf("%s the host holds %v, want %v", when, a.Blocks("app"), kept)
		}
	}
	check("without etcd")
	r.setCut(false)
	a.await("etcd to know", func() bool { return len(a.holding.splitOf("app")) == 0 })
	if claimed, err := b.ClaimAddress(t.Context(), "app", subnet, free); err != nil || !claimed {
		t.Errorf("claim of what was given back: %v, %v", claimed, err)
	}
	if _, err := b.ClaimAddress(t.Context(), "app", subnet, kept[0]); err == nil {
		t.Error("another host has claimed what the first has kept")
	}
	check("when etcd knows")
	a.end()
	a.start()
	check("after a start")
	a.await("the lease", func() bool {
		_, hasAnswered := a.Contact()
		return hasAnswered && len(a.Problems()) == 0
	})
	if _, err := a.holding.await(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("when it has written all again")
}

// TestRestOfABlockIsNotTold: if weave ends before etcd is told what was given back of a block, the host has the block
// again; and a block that it takes up again before stays its own.
func TestRestOfABlockIsNotTold(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	r := newRelay(t, etcd.URLs()[0])
	a := newHost(t, 1, []string{r.url()}, nil).start()
	a.join(app())
	subnet := app().Subnets[0].Subnet
	block, err := a.ClaimBlock(t.Context(), claimOf(subnet.String()))
	if err != nil {
		t.Fatal(err)
	}
	kept := []netip.Addr{netip.MustParseAddr("10.32.0.2")}
	r.setCut(true)
	if ok, err := a.GiveBackRest(t.Context(), "app", block, kept); !ok || err != nil {
		t.Fatal(ok, err)
	}
	a.end()
	r.setCut(false)
	a.start()
	isWhole := func() bool { return slices.Equal(a.Blocks("app"), []netip.Prefix{block}) }
	a.await("the whole block", isWhole)

	if err := a.holding.putBlock(t.Context(), "app", netip.MustParsePrefix("10.32.0.2/32")); err != nil || !isWhole() {
		t.Errorf("an address of the block is held besides: %v, %v", a.Blocks("app"), err)
	}
	if _, err := a.holding.splitBlock(t.Context(), "app", block, kept); err != nil { // etcd is not told yet
		t.Fatal(err)
	}
	if _, err := a.ClaimAddress(t.Context(), "app", subnet, netip.MustParseAddr("10.32.0.3")); err != nil {
		t.Fatal(err)
	}
	a.holding.hurry()
	a.await("what is to be told", func() bool { return len(a.holding.splitOf("app")) == 0 })
	if keys := keysBelow(t, etcd, "weave/blocks/"); !isWhole() || len(keys) != 1 {
		t.Errorf("the host holds %v, and etcd has %q, want the block", a.Blocks("app"), keys)
	}
}
