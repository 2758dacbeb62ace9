// SPDX-License-Identifier: Apache-2.0

package clustersync

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/overlay"
)

// An address has one owner in the cluster, but not always: a host that was away for too long, or whose state was lost,
// may have containers with addresses that are not its own any more. What follows keeps such a container from taking the
// packets of the rightful one. The same holds for MACs: frames get to one of the endpoints that have it, and for the
// others the user is told.

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

// mostTwins is how many MACs of a network are told of.
const mostTwins = 10

// lookForTwins notes which endpoints of a network have one MAC. The caller holds the lock.
func (s *Sync) lookForTwins(network string) {
	remotes, _ := s.o.Cluster.Remotes(network)
	s.setTwins(network, twins(network, s.o.Cluster.Self().Name, s.here, remotes, s.o.Cluster.HostName))
}

// setTwins notes what is wrong with the MACs of a network. The caller holds the lock.
func (s *Sync) setTwins(network string, found []string) {
	if len(found) == 0 && len(s.twice[network]) == 0 {
		return
	}
	s.twice[network] = found
	if len(found) == 0 {
		delete(s.twice, network)
	}
	var all []string
	for _, name := range slices.Sorted(maps.Keys(s.twice)) {
		all = append(all, s.twice[name]...)
	}
	s.twiceTold.Set(all, s.o.Log)
}

// twins tells of the endpoints of a network that have the MAC of another one, a line for each; self is the name of this
// host.
func twins(
	network, self string, here []cluster.Endpoint, remotes []cluster.Remote, hostName func(id string) string,
) (out []string) {
	owners := map[mac.Address]string{}
	more := 0
	add := func(ep cluster.Endpoint, host string) {
		owner := ep.Owner() + " on host " + host
		other, isTwin := owners[ep.MAC]
		switch {
		case !isTwin:
			owners[ep.MAC] = owner
		case len(out) < mostTwins:
			out = append(out, fmt.Sprintf("network %s between hosts: %s and %s have one MAC, %s, so frames get to one "+
				"of them only: start one of the two again with another MAC", network, other, owner, ep.MAC))
		default:
			more++
		}
	}
	for _, ep := range here {
		if ep.Network == network {
			add(ep, self)
		}
	}
	for _, r := range remotes {
		add(r.Endpoint, hostName(r.Host))
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("network %s between hosts: %d more endpoints have the MAC of another one",
			network, more))
	}
	return out
}
