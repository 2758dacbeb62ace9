// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// TestClaimsWithoutEndpoint: what weave has claimed for endpoints, and ended before it had their records, other hosts
// can have after the next start; what an endpoint has, or may have, they can't.
func TestClaimsWithoutEndpoint(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r, etcd := newClusterRig(t)
	r.createNetwork(ofCluster(netID))
	other := newOtherHost(t, etcd)
	if _, err := other.Join(t.Context(), cluster.Network{Name: "app"}); err != nil {
		t.Fatal(err)
	}
	specs := make([]EndpointSpec, 5) // 1 has an endpoint, 2 one of Docker's alone, 3 none, 4 is the IPAM's
	for n := range specs {
		specs[n] = newEndpoint(netID, n)
		specs[n].Addresses, specs[n].MAC = specs[n].Addresses[:1], mac.Address{2, 0, 0, 0, 0, byte(n)}
	}
	if _, err := r.CreateEndpoint(t.Context(), specs[1]); err != nil {
		t.Fatal(err)
	}
	shared := newNetwork(netID).Pools[1].Subnet
	specs[4].Addresses = newEndpoint(netID, 4).Addresses[1:]
	for _, spec := range specs[2:] {
		nw := r.Networks()[0]
		if err := r.claimMAC(t.Context(), nw, spec); err != nil {
			t.Fatal(err)
		}
		if _, err := r.claimAddresses(t.Context(), nw, spec); err != nil {
			t.Fatal(err)
		}
	}
	r.stop()
	r.start()
	known := []AdoptedEndpoint{{EndpointSpec: specs[2]}}
	var held []netip.Prefix
	for _, n := range []int{1, 2, 4} {
		addr := specs[n].Addresses[0].Addr()
		held = append(held, netip.PrefixFrom(addr, addr.BitLen()))
	}
	eventually(t, "the address without an endpoint is released, and no other", func() bool {
		if err := r.ReleaseClaims(t.Context(), netID, known, []netip.Prefix{shared}); err != nil {
			t.Fatal(err)
		}
		got := r.cluster.Blocks("app")
		slices.SortFunc(got, netip.Prefix.Compare)
		return slices.Equal(got, held)
	})
	claimed := map[mac.Address]string{specs[1].MAC: string(specs[1].ID), specs[2].MAC: string(specs[2].ID)}
	if got := r.cluster.MACs("app"); !maps.Equal(got, claimed) {
		t.Errorf("MACs %v are claimed, want %v", got, claimed)
	}
	eventually(t, "another host gets the address", func() bool {
		subnet, addr := newNetwork(netID).Pools[0].Subnet, specs[3].Addresses[0].Addr()
		_, err := other.ClaimAddress(t.Context(), "app", subnet, addr)
		return err == nil
	})
	eventually(t, "another host gets the MAC", func() bool {
		return other.ClaimMAC(t.Context(), "app", specs[3].MAC, "theirs") == nil
	})
}
