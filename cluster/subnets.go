// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Subnets returns the subnets of all networks of the cluster. Those are removed whose members have all died and will
// not come back.
func (c *Cluster) Subnets(ctx context.Context) ([]netip.Prefix, error) {
	records, _, err := c.list(ctx, c.keys.networks())
	if err != nil {
		return nil, err
	}
	empty, err := c.withoutMembers(ctx, records)
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, r := range records {
		nw, ok := c.networkOf(r)
		if !ok {
			continue
		}
		if empty[r.key] {
			gone, err := c.removeIfEmpty(ctx, nw, r.revision)
			if err != nil {
				return nil, err
			}
			if gone {
				continue
			}
		}
		for _, s := range nw.Subnets {
			out = append(out, s.Subnet)
		}
	}
	return out, nil
}

// compareFree returns comparisons that hold as long as no network of the cluster but that of the same name has an
// address of the subnets that want has and there, what the network is now, has not. It is ErrConflict if one has.
func (c *Cluster) compareFree(ctx context.Context, want, there Network) ([]clientv3.Cmp, error) {
	added := slices.DeleteFunc(slices.Clone(want.Subnets), func(s Subnet) bool {
		return slices.ContainsFunc(there.Subnets, func(t Subnet) bool { return t.Subnet == s.Subnet })
	})
	if len(added) == 0 {
		return nil, nil
	}
	records, revision, err := c.list(ctx, c.keys.networks())
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		other, ok := c.networkOf(r)
		if !ok || other.Name == want.Name {
			continue
		}
		for _, s := range added {
			overlaps := func(o Subnet) bool { return o.Subnet.Overlaps(s.Subnet) }
			if i := slices.IndexFunc(other.Subnets, overlaps); i >= 0 {
				return nil, fmt.Errorf("%w: network %s of the cluster has subnet %s, and this one would have %s",
					ErrConflict, other.Name, other.Subnets[i].Subnet, s.Subnet)
			}
		}
	}
	return []clientv3.Cmp{unchangedBelow(c.keys.networks(), revision)}, nil
}

// networkOf returns the network that a record is of; ok is false if it is not one of weave's.
func (c *Cluster) networkOf(r record) (nw Network, ok bool) {
	nw, err := parseNetwork(strings.TrimPrefix(r.key, c.keys.networks()), r.value)
	if err != nil {
		c.log.WithError(err).Warnf("etcd: %s is left out", r.key)
	}
	return nw, err == nil
}

// withoutMembers returns which records of networks are of those without members.
func (c *Cluster) withoutMembers(ctx context.Context, networks []record) (map[string]bool, error) {
	empty := map[string]bool{}
	for some := range slices.Chunk(networks, maxOperations) {
		var one []clientv3.Op
		for _, r := range some {
			members := c.keys.members(strings.TrimPrefix(r.key, c.keys.networks()))
			one = append(one, clientv3.OpGet(members, clientv3.WithPrefix(), clientv3.WithLimit(1),
				clientv3.WithKeysOnly()))
		}
		answer, err := c.transact(ctx, "read the members of networks", nil, one)
		if err != nil {
			return nil, err
		}
		for i, r := range some {
			empty[r.key] = len(answer.Responses[i].GetResponseRange().Kvs) == 0
		}
	}
	return empty, nil
}
