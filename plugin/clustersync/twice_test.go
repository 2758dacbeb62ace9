// SPDX-License-Identifier: Apache-2.0

package clustersync

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
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

// TestTwins: endpoints that have one MAC are told with their hosts, wherever they are.
func TestTwins(t *testing.T) {
	remote := func(name, host string, last byte) cluster.Remote {
		ep := endpoint(name, "app", last)
		ep.ContainerName, ep.Host = name, host
		return cluster.Remote{Endpoint: ep}
	}
	name := func(id string) string { return "host" + id }
	here := []cluster.Endpoint{endpoint("web", "app", 1), endpoint("db", "app", 2), endpoint("other", "shop", 3)}
	remotes := []cluster.Remote{remote("cache", "2", 3), remote("queue", "2", 2), remote("mail", "3", 3)}
	got := twins("app", "host1", here, remotes, name)
	want := []string{
		"endpoint db on host host1 and container queue on host host2 have one MAC, 02:00:00:00:00:02",
		"container cache on host host2 and container mail on host host3 have one MAC, 02:00:00:00:00:03",
	}
	if !slices.EqualFunc(got, want, strings.Contains) {
		t.Errorf("%q, want lines with %q", got, want)
	}
	if got := twins("app", "host1", here, remotes[:1], name); len(got) > 0 {
		t.Errorf("%q where each MAC is of one", got)
	}
	for n := range 20 {
		remotes = append(remotes, remote(fmt.Sprint(n), "4", 1))
	}
	if got := twins("app", "host1", here, remotes, name); len(got) != mostTwins+1 ||
		!strings.Contains(got[mostTwins], "12 more") {
		t.Errorf("%d lines, %q, want %d and the number of the others", len(got), got, mostTwins)
	}
}
