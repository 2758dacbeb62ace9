// SPDX-License-Identifier: Apache-2.0

package clustersync

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/overlay"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func endpoint(id, network string, last byte, addresses ...string) cluster.Endpoint {
	ep := cluster.Endpoint{ID: id, Network: network, MAC: mac.Address{2, 0, 0, 0, 0, last}}
	for _, a := range addresses {
		ep.Addresses = append(ep.Addresses, netip.MustParsePrefix(a))
	}
	return ep
}

// TestWithoutLost: an address that is not this host's is told as long as no other host has a container with it.
func TestWithoutLost(t *testing.T) {
	holds := func(network string, a netip.Addr) bool {
		return network == "app" && a == netip.MustParseAddr("10.0.0.1")
	}
	remotes := func(network string) []cluster.Remote {
		if network != "app" {
			return nil
		}
		return []cluster.Remote{{Endpoint: endpoint("r", "app", 9, "10.0.0.1/24", "10.0.0.2/24")}}
	}
	got := withoutLost([]cluster.Endpoint{
		endpoint("held", "app", 1, "10.0.0.1/24"),
		endpoint("lost", "app", 2, "10.0.0.2/24", "fd00::2/64"),
		endpoint("nobody's", "app", 3, "10.0.0.3/24"),
		endpoint("elsewhere", "other", 4, "10.0.0.2/24"),
	}, holds, remotes)
	want := []cluster.Endpoint{
		endpoint("held", "app", 1, "10.0.0.1/24"),
		endpoint("lost", "app", 2, "fd00::2/64"),
		endpoint("nobody's", "app", 3, "10.0.0.3/24"),
		endpoint("elsewhere", "other", 4, "10.0.0.2/24"),
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}

// TestWithoutOwn: what an endpoint here has, no endpoint on another host takes from it.
func TestWithoutOwn(t *testing.T) {
	vtep := netip.MustParseAddr("192.0.2.2")
	remote := func(last byte, addresses ...string) cluster.Remote {
		return cluster.Remote{Endpoint: endpoint("r", "app", last, addresses...), VTEP: vtep}
	}
	here := []cluster.Endpoint{
		endpoint("h", "app", 1, "10.0.0.1/24"),
		endpoint("elsewhere", "other", 5, "10.0.0.5/24"),
	}
	got := withoutOwn("app", []cluster.Remote{
		remote(1, "10.0.0.7/24"), // the MAC of one here
		remote(2, "10.0.0.1/24", "10.0.0.2/24"),
		remote(5, "10.0.0.5/24"),
	}, here)
	want := []overlay.Remote{
		{MAC: mac.Address{2, 0, 0, 0, 0, 2}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, VTEP: vtep},
		{MAC: mac.Address{2, 0, 0, 0, 0, 5}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, VTEP: vtep},
	}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("the kernel is told (-want +got):\n%s", diff)
	}
}
