// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"net/netip"
	"slices"
)

// Holdings returns what each host holds of a network that this one is on, by the host's id: whole blocks, and single
// addresses as prefixes of full length, in their order. It asks etcd: ErrUnreachable if that does not answer. See
// Blocks for what this host knows by itself that it holds.
func (c *Cluster) Holdings(ctx context.Context, network string) (map[string][]netip.Prefix, error) {
	taken, err := c.readBlocks(ctx, network)
	if err != nil {
		return nil, err
	}
	out := map[string][]netip.Prefix{}
	nw, _ := c.Network(network)
	for _, s := range nw.Subnets {
		for host, held := range taken.byHost(s.Subnet) {
			out[host] = append(out[host], held...)
		}
	}
	for _, held := range out {
		slices.SortFunc(held, netip.Prefix.Compare)
	}
	return out, nil
}
