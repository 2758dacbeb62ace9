// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"slices"
	"testing"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestLateGiveBack: etcd may make a change long after its call has failed. A block that was to be given back and was
// taken up again meanwhile stays this host's.
func TestLateGiveBack(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, 1)
	h := startMembers(t, 1, etcd)[0]
	subnet := app().Subnets[0].Subnet
	claim := claimOf(subnet.String())
	block, err := h.ClaimBlock(t.Context(), claim)
	if err != nil {
		t.Fatal(err)
	}
	key := h.keys.block("app", subnet, block)
	for name, takeUp := range map[string]func() error{
		"by a claim": func() error { _, err := h.ClaimBlock(t.Context(), claim); return err },
		"by the claim of an address": func() error {
			_, err := h.ClaimAddress(t.Context(), "app", subnet, block.Addr())
			return err
		},
	} {
		if err := h.holding.dropBlock(t.Context(), "app", block); err != nil {
			t.Fatal(err)
		}
		compare, late, err := h.removalOf(t.Context(), key, h.id)
		if err != nil || len(late) == 0 {
			t.Fatalf("removal %v: %v", late, err)
		}
		if err := takeUp(); err != nil {
			t.Fatal(err)
		}
		if _, err := h.commit(t.Context(), "come late", compare, late); err != nil {
			t.Fatal(err)
		}
		got := keysBelow(t, etcd, "weave/blocks")
		if !slices.Equal(got, []string{key}) || !h.Holds("app", block.Addr()) {
			t.Errorf("taken up %s, etcd has %q, want %s", name, got, key)
		}
	}
	h.holding.told("app", block)
	h.giveBack("app", block)
	h.await("etcd to know", func() bool { return len(keysBelow(t, etcd, "weave/blocks")) == 0 })
}
