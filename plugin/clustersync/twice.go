// SPDX-License-Identifier: Apache-2.0

package clustersync

import (
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/overlay"
)

// An address has one owner in the cluster, but not always: a host that was away for too long, or whose state was lost,
// may have containers with addresses that are not its own any more. What follows keeps such a container from taking the
// packets of the rightful one.

// withoutLost returns this host's endpoints without the addresses that are not its own and that an endpoint on another
// host has. The caller holds the lock.
func (s *Sync) withoutLost(here []cluster.Endpoint) []cluster.Endpoint {
	return withoutLost(here, s.o.Cluster.Holds, func(network string) []cluster.Remote {
		remotes, _ := s.o.Cluster.Remotes(network)
		return remotes
	})
}

func withoutLost(
	here []cluster.Endpoint,
	holds func(network string, a netip.Addr) bool, remotes func(network string) []cluster.Remote,
) []cluster.Endpoint {
	isLost := func(network string, a netip.Addr) bool {
		return !holds(network, a) &&
			slices.ContainsFunc(remotes(network), func(r cluster.Remote) bool { return r.Has(a) })
	}
	for i, ep := range here {
		here[i].Addresses = slices.DeleteFunc(slices.Clone(ep.Addresses), func(a netip.Prefix) bool {
			return isLost(ep.Network, a.Addr())
		})
	}
	return here
}

// withoutOwn returns what the kernel is to know of a network's endpoints on other hosts: no MAC and no address that an
// endpoint here has, which is reached without it.
func withoutOwn(network string, remotes []cluster.Remote, here []cluster.Endpoint) []overlay.Remote {
	macs, addresses := map[mac.Address]bool{}, map[netip.Addr]bool{}
	for _, ep := range here {
		if ep.Network != network {
			continue
		}
		macs[ep.MAC] = true
		for _, a := range ep.Addresses {
			addresses[a.Addr()] = true
		}
	}
	var out []overlay.Remote
	for _, r := range remotes {
		if macs[r.MAC] {
			continue
		}
		remote := overlay.Remote{MAC: r.MAC, VTEP: r.VTEP}
		for _, a := range r.Addresses {
			if !addresses[a.Addr()] {
				remote.Addresses = append(remote.Addresses, a.Addr())
			}
		}
		out = append(out, remote)
	}
	return out
}
