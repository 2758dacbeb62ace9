// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

// askTimeout is how long a listing of pools waits for etcd, for all networks together.
const askTimeout = 3 * time.Second

func (s *Server) pools(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	pools := []api.Pool{}
	own := s.options.Pools()
	for _, p := range own {
		pools = append(pools, s.toPool(ctx, p))
	}
	for _, p := range s.dockersPools(own) {
		pool := s.toPool(ctx, p)
		pool.Docker = true
		pools = append(pools, pool)
	}
	slices.SortFunc(pools, func(a, b api.Pool) int {
		return cmp.Or(
			cmp.Compare(a.NetworkName, b.NetworkName), cmp.Compare(a.NetworkID, b.NetworkID),
			a.Subnet.Compare(b.Subnet), cmp.Compare(a.Space, b.Space),
		)
	})
	return pools, nil
}

// dockersPools returns the subnets of weave's networks that are of none of weave's pools: Docker's own IPAM hands out
// their addresses.
func (s *Server) dockersPools(own []ipam.Pool) (out []ipam.Pool) {
	for _, n := range s.options.Tracker.Networks() {
		for _, p := range n.Pools {
			isOwn := p.Space == ipam.LocalSpace || p.Space == ipam.GlobalSpace ||
				slices.ContainsFunc(own, func(o ipam.Pool) bool { return o.Subnet == p.Subnet && o.Space == p.Space })
			if !isOwn && p.Subnet.Bits() > 0 { // of Docker's null driver: all addresses
				out = append(out, ipam.Pool{Space: p.Space, Subnet: p.Subnet, Network: n.Cluster})
			}
		}
	}
	return out
}

// toPool returns a pool with its network as the API lists it. Of one that hosts share etcd is asked who holds what.
func (s *Server) toPool(ctx context.Context, p ipam.Pool) api.Pool {
	out := api.Pool{Subnet: p.Subnet, Range: p.Range, Space: p.Space, Cluster: p.Network}
	for _, n := range s.options.Tracker.Networks() {
		for _, its := range n.Pools {
			if its.Subnet == p.Subnet && its.Space == p.Space {
				out.NetworkID, out.NetworkName = string(n.ID), s.options.Names.NetworkName(string(n.ID))
				out.Gateway = its.Gateway
			}
		}
	}
	held := map[string][]netip.Prefix{"": {p.Subnet}} // by the host's id, empty without a cluster
	if p.Range.IsValid() {
		held[""] = []netip.Prefix{p.Range}
	}
	self := ""
	if s.options.Cluster != nil {
		self = s.options.Cluster.Self().ID
		held = map[string][]netip.Prefix{self: held[""]}
	}
	if s.options.Cluster != nil && p.Network != "" {
		var err error
		if held, err = s.options.Cluster.Holdings(ctx, p.Network); err != nil {
			held = map[string][]netip.Prefix{self: s.options.Cluster.Blocks(p.Network)}
			out.Error = fmt.Sprintf("only what this host holds is known: %v", err)
		}
		if _, ok := held[self]; !ok { // it is on the network, and is listed
			held[self] = nil
		}
	}
	endpoints := s.endpointsByHost(self, p.Network, out)
	for host, blocks := range held {
		h := s.toHolder(host, blocks, p.Subnet, endpoints[host])
		if h.Self || len(h.Blocks) > 0 || h.Endpoints > 0 { // it may hold something of the network's other subnet only
			out.Holders = append(out.Holders, h)
		}
	}
	slices.SortFunc(out.Holders, func(a, b api.Holder) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.HostID, b.HostID))
	})
	return out
}

// toHolder returns what a host holds of a subnet, out of what it holds of the network.
func (s *Server) toHolder(host string, blocks []netip.Prefix, subnet netip.Prefix, endpoints int) api.Holder {
	h := api.Holder{HostID: host, Self: true, Blocks: []netip.Prefix{}, Endpoints: endpoints}
	if s.options.Cluster != nil {
		h.Host, h.Self = s.options.Cluster.HostName(host), host == s.options.Cluster.Self().ID
	}
	for _, b := range blocks {
		if subnet.Contains(b.Addr()) {
			h.Blocks = append(h.Blocks, b)
			h.Addresses += size(b)
		}
	}
	return h
}

// endpointsByHost returns how many endpoints are known with an address of a pool, by the id of their host.
func (s *Server) endpointsByHost(self, network string, p api.Pool) map[string]int {
	count := map[string]int{}
	isOf := func(a netip.Prefix) bool { return p.Subnet.Contains(a.Addr()) }
	for _, e := range s.options.Tracker.Endpoints() {
		if e.Network == driver.NetworkID(p.NetworkID) && slices.ContainsFunc(e.Addresses, isOf) {
			count[self]++
		}
	}
	if s.options.Cluster == nil || network == "" {
		return count
	}
	remotes, _ := s.options.Cluster.Remotes(network)
	for _, r := range remotes {
		if slices.ContainsFunc(r.Addresses, isOf) {
			count[r.Host]++
		}
	}
	return count
}

// size returns how many addresses a prefix has, at most math.MaxUint64.
func size(p netip.Prefix) uint64 {
	if bits := p.Addr().BitLen() - p.Bits(); bits < 64 {
		return 1 << bits
	}
	return math.MaxUint64
}
