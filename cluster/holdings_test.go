// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"net/netip"
	"testing"

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
