// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// TestSubnetOfOtherHosts: a subnet that a network has on other hosts alone is told, whether these have it already when
// this host joins or add it later.
func TestSubnetOfOtherHosts(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r, etcd := newClusterRig(t)
	other := newOtherHost(t, etcd)
	join := func(name string, subnets ...string) {
		t.Helper()
		want := cluster.Network{Name: name}
		for _, s := range subnets {
			want.Subnets = append(want.Subnets, cluster.Subnet{Subnet: netip.MustParsePrefix(s)})
		}
		if _, err := other.Join(t.Context(), want); err != nil {
			t.Fatal(err)
		}
	}
	const v6, laterV6 = "fd00:40::/64", "fd00:44::/64"
	join("app", "10.40.0.0/16", v6)
	spec := ofCluster(netID)
	spec.Pools = spec.Pools[:1]
	r.createNetwork(spec)
	later := ofCluster(networkID(2))
	later.Cluster = "later"
	later.Pools = []Pool{{Subnet: netip.MustParsePrefix("10.44.0.0/16")}}
	r.createNetwork(later)
	want := func(problems []string, subnets ...string) error {
		if len(problems) != len(subnets) {
			return fmt.Errorf("problems %q, want one for each of %q", problems, subnets)
		}
		for i, s := range subnets {
			if !strings.Contains(problems[i], "["+s+"] on other hosts") {
				return fmt.Errorf("problem %q, want %s in it", problems[i], s)
			}
		}
		return nil
	}
	if err := want(r.Problems(t.Context()), v6); err != nil {
		t.Error(err)
	}
	join("later", laterV6)
	other.SetEndpoints([]cluster.Endpoint{{
		ID: "e1", Network: "later", MAC: mac.MustParse("02:00:00:00:00:07"),
		Addresses: []netip.Prefix{netip.MustParsePrefix("fd00:44::7/64")},
	}})
	eventually(t, "the subnet that was added is told", func() bool {
		return want(r.Problems(t.Context()), laterV6, v6) == nil
	})
	if err := r.DeleteNetwork(t.Context(), later.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteNetwork(t.Context(), netID); err != nil {
		t.Fatal(err)
	}
	r.createNetwork(ofCluster(netID))
	checkProblems(t, r)
}
