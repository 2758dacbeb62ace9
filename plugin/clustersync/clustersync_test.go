// SPDX-License-Identifier: Apache-2.0

package clustersync

import (
	"maps"
	"slices"
	"testing"

	"github.com/weaveplugin/weave/cluster"
)

// TestChangedNetworks: names are told again of the networks on which endpoints of this host have come, gone, or have
// other names, and of no others.
func TestChangedNetworks(t *testing.T) {
	ep := func(id, network string, names ...string) cluster.Endpoint {
		return cluster.Endpoint{ID: id, Network: network, Names: names}
	}
	before := []cluster.Endpoint{ep("e1", "app", "web"), ep("e2", "app"), ep("e3", "other")}
	for _, c := range []struct {
		what string
		now  []cluster.Endpoint
		want []string
	}{
		{"nothing", before, nil},
		{"another order", []cluster.Endpoint{before[2], before[1], before[0]}, nil},
		{"one has come", append(slices.Clone(before), ep("e4", "third")), []string{"third"}},
		{"one has gone", before[:2], []string{"other"}},
		{"one has another name", []cluster.Endpoint{ep("e1", "app", "shop"), before[1], before[2]}, []string{"app"}},
		{"all have gone", nil, []string{"app", "other"}},
	} {
		if got := slices.Sorted(maps.Keys(changedNetworks(before, c.now))); !slices.Equal(got, c.want) {
			t.Errorf("%s: networks %v, want %v", c.what, got, c.want)
		}
	}
}
