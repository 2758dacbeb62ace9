// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weaveplugin/weave/store"
)

// A block of which a host uses some addresses is split when other hosts find no address: the host keeps the addresses
// that it uses as single ones, and the rest of the block is free. The host forgets the rest at once, and etcd is told
// in the background, as for GiveBack. If weave ends before, etcd still has the block as a whole, and so has the host
// after its next start.

// maxKept is how many addresses of a block a host can keep when it gives back the rest: they are written in the
// transaction that removes the block.
const maxKept = maxOperations - 1

// GiveBackRest gives back a block that this host holds but for the addresses that it uses, and reports whether it has.
// It has not if it does not hold the block, or uses more of its addresses than one transaction can keep.
func (c *Cluster) GiveBackRest(ctx context.Context, network string, block netip.Prefix, used []netip.Addr) (
	bool, error,
) {
	if len(used) > maxKept {
		return false, nil
	}
	isSplit, err := c.holding.splitBlock(ctx, network, block, used)
	c.holding.hurry()
	return isSplit, err
}

// tellSplit tells etcd of the blocks of a network of which this host has given back the rest. One that it has taken up
// again as a whole by now stays its own. The caller holds the network's lock.
func (c *Cluster) tellSplit(ctx context.Context, network string) error {
	nw, ok := c.holding.network(network)
	for _, b := range c.holding.splitOf(network) {
		isWhole := slices.Contains(c.holding.blocksOf(network), b)
		if subnet := nw.subnetOf(b.Addr()); ok && subnet.IsValid() && !isWhole {
			if err := c.split(ctx, network, subnet, b); err != nil {
				return err
			}
		}
		c.holding.toldSplit(network, b)
	}
	return nil
}

// split replaces a block of this host's in etcd by the addresses of it that it holds, under the same lease. The caller
// holds the network's lock.
func (c *Cluster) split(ctx context.Context, network string, subnet, block netip.Prefix) error {
	key := c.keys.block(network, subnet, block)
	for range maxTries {
		answer, err := c.get(ctx, key)
		if err != nil || len(answer.Kvs) == 0 || string(answer.Kvs[0].Value) != c.id {
			return err
		}
		there := answer.Kvs[0]
		operations := []clientv3.Op{clientv3.OpDelete(key)}
		for _, held := range c.holding.blocksOf(network) {
			if block.Overlaps(held) {
				operations = append(operations, clientv3.OpPut(c.keys.block(network, subnet, held), c.id,
					clientv3.WithLease(clientv3.LeaseID(there.Lease))))
			}
		}
		ok, err := c.commit(ctx, "give back the rest of "+block.String(),
			[]clientv3.Cmp{unchanged(key, there.ModRevision)}, operations)
		if err != nil || ok {
			return err
		}
	}
	return fmt.Errorf("%w: give back the rest of %s: it changes all the time", ErrConflict, block)
}

// splitBlock forgets a block but for some of its addresses, if this host holds it; etcd is still to be told.
func (h *holding) splitBlock(ctx context.Context, network string, block netip.Prefix, kept []netip.Addr) (bool, error) {
	if !slices.Contains(h.blocksOf(network), block) {
		return false, nil
	}
	changes := []store.Change{store.Delete(blockKey(network, block))}
	var singles []netip.Prefix
	for _, a := range kept {
		single := netip.PrefixFrom(a, a.BitLen())
		singles = append(singles, single)
		changes = append(changes, store.Change{Key: blockKey(network, single), Value: []byte("{}")})
	}
	return true, h.apply(ctx, func() {
		rest := slices.DeleteFunc(h.blocks[network], func(b netip.Prefix) bool { return b == block })
		h.blocks[network] = append(rest, singles...)
		h.split[network] = append(h.split[network], block)
	}, changes...)
}

// splitOf returns the blocks of which this host has given back the rest, of which etcd was not told.
func (h *holding) splitOf(network string) []netip.Prefix {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.split[network])
}

// toldSplit notes that etcd knows that the rest of a block was given back.
func (h *holding) toldSplit(network string, block netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.split[network] = slices.DeleteFunc(h.split[network], func(b netip.Prefix) bool { return b == block })
}
