// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/weaveplugin/weave/internal/etcdtest"
)

// TestChosenSubnet: a subnet that nobody has named is that of one network alone; one that is named may be others', too.
func TestChosenSubnet(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 2, etcdtest.Start(t, 1))
	subnet := func(s string) Subnet { return Subnet{Subnet: netip.MustParsePrefix(s)} }
	hosts[0].join(Network{Name: "app", Subnets: []Subnet{subnet("10.32.0.0/22")}})
	hosts[0].join(Network{Name: "six", Subnets: []Subnet{subnet("fd00:32::/64")}})
	for _, tt := range []struct {
		what, name, subnet string
		ok                 bool
	}{
		{"that of the same network", "app", "10.32.0.0/22", true},
		{"that of another one", "shop", "10.32.0.0/22", false},
		{"a part of it", "shop", "10.32.1.0/24", false},
		{"a free one", "shop", "10.32.4.0/22", true},
		{"of another family, that of another one", "shop", "fd00:32::/64", false},
		{"of another family, a free one", "shop", "fd00:33::/64", true},
	} {
		want := Network{Name: tt.name, Subnets: []Subnet{subnet(tt.subnet)}}
		if _, err := hosts[1].JoinChosen(t.Context(), want); (err == nil) != tt.ok ||
			err != nil && !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	hosts[1].join(Network{Name: "named", Subnets: []Subnet{subnet("10.32.0.0/22")}})
}

// TestChoicesAtOnce: hosts that make different networks at the same moment, and all choose the first free subnet, get
// different ones.
func TestChoicesAtOnce(t *testing.T) {
	t.Parallel()
	hosts := startHosts(t, 2, etcdtest.Start(t, 1))
	const each = 8
	create := func(h *host, name string) error {
		for {
			used, err := h.Subnets(t.Context())
			if err != nil {
				return err
			}
			subnet := netip.MustParsePrefix("10.32.0.0/24")
			for n := byte(1); slices.Contains(used, subnet); n++ {
				subnet = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, n, 0}), 24)
			}
			_, err = h.JoinChosen(t.Context(), Network{Name: name, Subnets: []Subnet{{Subnet: subnet}}})
			if !errors.Is(err, ErrConflict) {
				return err
			}
		}
	}
	var group sync.WaitGroup
	for _, h := range hosts {
		for n := range each {
			group.Go(func() {
				if err := create(h, fmt.Sprintf("%s-%d", h.options.Host.Name, n)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	group.Wait()
	got, err := hosts[0].Subnets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, netip.Prefix.Compare)
	if len(got) != len(hosts)*each || len(slices.Compact(slices.Clone(got))) != len(got) {
		t.Errorf("%d networks have the subnets %v", len(hosts)*each, got)
	}
}
