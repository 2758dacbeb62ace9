// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Forget removes what etcd has of a host that is gone for good, without waiting for the end of its grace period: its
// memberships, the networks that it was the last member of, its blocks, and at last the host itself. It is ErrPresent
// if the host is there, or comes back meanwhile.
//
// Each transaction compares that the host has not come back. One that comes back asks etcd what it has lost, see
// checkHoldings. The record of it as a holder goes last: until then the host is listed, so whatever keeps this from its
// end, it can be called again.
func (c *Cluster) Forget(ctx context.Context, id string) error {
	if id == c.id {
		return fmt.Errorf("%w: it is this one: remove its networks of the cluster, or stop weave here and have "+
			"another host forget it", ErrPresent)
	}
	networks, _, err := c.list(ctx, c.keys.networks())
	if err != nil {
		return err
	}
	for _, r := range networks {
		if err := c.forgetOn(ctx, id, strings.TrimPrefix(r.key, c.keys.networks())); err != nil {
			return err
		}
	}
	return c.whileGone(ctx, id, nil, []clientv3.Op{clientv3.OpDelete(c.keys.holder(id))})
}

// forgetOn removes what etcd has of a host that is gone on a network, in the order of finishLeaving: a claim of that
// host's that is still on its way needs the membership.
func (c *Cluster) forgetOn(ctx context.Context, id, network string) error {
	err := c.whileGone(ctx, id, nil, []clientv3.Op{
		clientv3.OpDelete(c.keys.member(network, id)),
		clientv3.OpDelete(c.keys.endpoints(network)+id+"/", clientv3.WithPrefix()),
	})
	if err != nil {
		return err
	}
	whileGone := func(compare []clientv3.Cmp, changes []clientv3.Op) error {
		return c.whileGone(ctx, id, compare, changes)
	}
	if err := c.removeMACs(ctx, id, network, whileGone); err != nil {
		return err
	}
	if err := c.removeHeld(ctx, id, network, whileGone); err != nil {
		return err
	}
	return c.removeWithoutMembers(ctx, network)
}

// heldBy returns the records whose value says that a host has them: of its blocks, and of its wish for addresses.
func (c *Cluster) heldBy(ctx context.Context, id, network string) ([]record, error) {
	records, _, err := c.list(ctx, c.keys.blocks(network))
	if err != nil {
		return nil, err
	}
	wanted, err := c.get(ctx, c.keys.wanted(network))
	if err != nil {
		return nil, err
	}
	for _, kv := range wanted.Kvs {
		records = append(records, record{key: string(kv.Key), value: kv.Value, revision: kv.ModRevision})
	}
	return slices.DeleteFunc(records, func(r record) bool { return string(r.value) != id }), nil
}

// whileGone makes changes if a host is not there and all comparisons hold. It is ErrPresent if the host is there.
func (c *Cluster) whileGone(ctx context.Context, id string, compare []clientv3.Cmp, changes []clientv3.Op) error {
	key := c.keys.host(id)
	ok, err := c.commit(ctx, "forget host "+id, append(compare, missing(key)), changes)
	if err != nil || ok {
		return err
	}
	there, err := c.get(ctx, key)
	if err == nil && len(there.Kvs) > 0 {
		err = fmt.Errorf("%w: %s: stop weave on it, wait until `weave hosts` says that it is gone, and try again",
			ErrPresent, c.HostName(id))
	}
	return err
}
