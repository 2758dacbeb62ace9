// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// ClaimBlock claims a free block, or, where no block is free as a whole, a single free address. While this host asks
// etcd what it has lost, it waits for that, and returns a block that it still holds. Where there is none it
// asks the other hosts for what they don't use, unless the claim is ahead of the need. It is ErrExhausted if they use
// all, and ErrConflict if this host is not on the network any more.
func (c *Cluster) ClaimBlock(ctx context.Context, claim Claim) (netip.Prefix, error) {
	for try := range maxTries {
		block, found, err := c.tryClaim(ctx, claim, try)
		if err != nil || block.IsValid() {
			return block, err
		}
		if found {
			continue
		}
		given := false
		if !claim.Ahead {
			if given, err = c.ask(ctx, claim.Network); err != nil {
				return netip.Prefix{}, err
			}
		}
		if !given {
			return netip.Prefix{}, fmt.Errorf("%w: no host has given one of %s back: `weave ipam` says who holds "+
				"them, hosts that are gone among them (`weave forget HOST` frees those of a host that does not come "+
				"back)",
				ErrExhausted, claim.Subnet)
		}
	}
	return netip.Prefix{}, fmt.Errorf("%w: other hosts claim each block of %s first: try again",
		ErrConflict, claim.Subnet)
}

// tryClaim claims a free block. None is returned if another host was faster; found is false if there is none.
func (c *Cluster) tryClaim(ctx context.Context, claim Claim, try int) (block netip.Prefix, found bool, err error) {
	wasInDoubt := c.holding.isInDoubt()
	unlock, err := c.lockMember(ctx, claim.Network)
	if err != nil {
		return block, false, err
	}
	defer unlock()
	if wasInDoubt { // what this host holds may be enough
		for _, b := range c.Blocks(claim.Network) {
			if claim.Subnet.Contains(b.Addr()) {
				return b, true, nil
			}
		}
	}
	taken, err := c.readBlocks(ctx, claim.Network)
	if err != nil {
		return block, false, err
	}
	for _, own := range taken.of(c.id, claim.Subnet) {
		if !c.holds(claim.Network, own.Addr()) { // the answer to its claim was lost, or it could not be given back
			ok, err := c.adopt(ctx, claim.Network, claim.Subnet, own)
			if err != nil || !ok {
				return netip.Prefix{}, true, err
			}
			return own, true, nil
		}
	}
	candidates := claim.candidates(taken)
	if len(candidates) == 0 {
		return block, false, nil
	}
	block = candidates[0]
	if try > 0 { // others try the first one, too
		block = candidates[rand.IntN(len(candidates))]
	}
	if ok, err := c.claim(ctx, claim.Network, claim.Subnet, block); err != nil || !ok {
		return netip.Prefix{}, true, err
	}
	return block, true, nil
}

// ClaimAddress claims one address, unless this host holds it already, and reports whether it has. It is ErrConflict if
// an endpoint of another host has it, or another host holds it and, being asked, does not give it back.
func (c *Cluster) ClaimAddress(ctx context.Context, network string, subnet netip.Prefix, addr netip.Addr) (
	bool, error,
) {
	for try := 0; ; try++ {
		claimed, holder, err := c.tryAddress(ctx, network, subnet, addr)
		if err != nil || holder == "" {
			return claimed, err
		}
		if err := c.errUsed(network, addr); err != nil {
			return false, err
		}
		if try > 0 {
			return false, fmt.Errorf("%w: address %s is one of those that host %s hands out: name another one, or "+
				"keep such addresses out of its hands with --ip-range on all hosts",
				ErrConflict, addr, c.HostName(holder))
		}
		if _, err := c.ask(ctx, network); err != nil {
			return false, err
		}
	}
}

// tryAddress claims one address, unless this host holds it, and returns the host that does; empty: this one.
func (c *Cluster) tryAddress(ctx context.Context, network string, subnet netip.Prefix, addr netip.Addr) (
	claimed bool, holder string, err error,
) {
	if c.Holds(network, addr) { // then it needs no etcd
		return false, "", nil
	}
	unlock, err := c.lockMember(ctx, network)
	if err != nil {
		return false, "", err
	}
	defer unlock()
	if c.Holds(network, addr) {
		return false, "", nil
	}
	single := netip.PrefixFrom(addr, addr.BitLen())
	for range maxTries {
		if ok, err := c.claim(ctx, network, subnet, single); err != nil || ok {
			return ok, "", err
		}
		taken, err := c.readBlocks(ctx, network)
		if err != nil {
			return false, "", err
		}
		switch block, holder := taken.holder(subnet, addr); holder {
		case "": // it was given back meanwhile
		case c.id:
			if ok, err := c.adopt(ctx, network, subnet, block); err != nil || ok {
				return ok && block == single, "", err
			}
		default:
			return false, holder, nil
		}
	}
	return false, "", fmt.Errorf("%w: other hosts claim address %s and give it back all the time: try again",
		ErrConflict, addr)
}

// lockMember is lock for what only a member of the network may do, and one that may hold something. It is ErrConflict
// if this host is none.
func (c *Cluster) lockMember(ctx context.Context, network string) (unlock func(), err error) {
	if _, err := c.holding.await(ctx); err != nil { // before the lock, which checkHoldings takes, too
		return nil, err
	}
	unlock, err = c.lock(ctx, network)
	if err != nil {
		return nil, err
	}
	isMember, isOther := c.membership(network)
	switch {
	case !isMember:
		err = fmt.Errorf("%w: this host is not on network %s of the cluster", ErrConflict, network)
	case isOther:
		err = fmt.Errorf("network %s of the cluster: %w", network, errOther("it was removed and made again"))
	default:
		return unlock, nil
	}
	unlock()
	return nil, err
}

// membership returns whether this host is on a network, and whether the cluster has another one of that name by now.
func (c *Cluster) membership(network string) (isMember, isOther bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.networks[network]
	return m != nil, m != nil && m.isOther
}

// errUsed is ErrConflict if an endpoint of another host has the address.
func (c *Cluster) errUsed(network string, addr netip.Addr) error {
	remotes, _ := c.Remotes(network)
	i := slices.IndexFunc(remotes, func(r Remote) bool { return r.Has(addr) })
	if i < 0 {
		return nil
	}
	return fmt.Errorf("%w: address %s is that of %s on host %s: name another one",
		ErrConflict, addr, remotes[i].Owner(), c.HostName(remotes[i].Host))
}

// HostName returns the name of a host, or its id if it has none.
func (c *Cluster) HostName(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h, ok := c.hosts[id]; ok {
		return h.Name
	}
	if h, ok := c.holders[id]; ok {
		return h.Name
	}
	return id
}

// Holds reports whether this host may hand out an address of a network.
func (c *Cluster) Holds(network string, addr netip.Addr) bool {
	return c.holding.mayHandOut() && c.holds(network, addr)
}

func (c *Cluster) holds(network string, addr netip.Addr) bool {
	return slices.ContainsFunc(c.holding.blocksOf(network), func(b netip.Prefix) bool { return b.Contains(addr) })
}

// Blocks returns what this host may hand out of a network: blocks, and single addresses as prefixes of full length.
// There are none for a host that was without etcd for longer than the grace period, or that another machine is in the
// cluster as; nor, for a moment, for one that is back in the cluster and asks etcd what it has lost.
func (c *Cluster) Blocks(network string) []netip.Prefix {
	if !c.holding.mayHandOut() {
		return nil
	}
	return c.holding.blocksOf(network)
}

// GiveBack forgets blocks and single addresses of a network that this host does not use. Other hosts can claim them as
// soon as etcd has been told, in the background: until then nobody has them. What this host does not hold is passed
// over.
func (c *Cluster) GiveBack(ctx context.Context, network string, blocks []netip.Prefix) error {
	for _, b := range blocks {
		if err := c.holding.dropBlock(ctx, network, b); err != nil {
			return err
		}
	}
	c.holding.hurry()
	return nil
}

// tellDropped tells etcd of what this host has given back of a network. What it holds again by now stays its own. If
// weave ends before etcd is told, it holds that after its next start. The caller holds the network's lock.
func (c *Cluster) tellDropped(ctx context.Context, network string) error {
	nw, ok := c.holding.network(network)
	for _, b := range c.holding.droppedOf(network) {
		if subnet := nw.subnetOf(b.Addr()); ok && subnet.IsValid() && !c.holds(network, b.Addr()) {
			if err := c.remove(ctx, "give back "+b.String(), c.keys.block(network, subnet, b), c.id); err != nil {
				return err
			}
		}
		c.holding.told(network, b)
	}
	return nil
}

// remove removes a key that has a value; none if it has not.
func (c *Cluster) remove(ctx context.Context, doing, key, value string) error {
	compare, remove, err := c.removalOf(ctx, key, value)
	if err != nil || len(remove) == 0 {
		return err
	}
	_, err = c.commit(ctx, doing, compare, remove)
	return err
}

// removalOf returns the transaction that removes a key that has a value; it is an empty one if the key has not. etcd
// may make a change long after its call has failed, so the key must be as it is now: see adopt.
func (c *Cluster) removalOf(ctx context.Context, key, value string) (
	compare []clientv3.Cmp, remove []clientv3.Op, err error,
) {
	answer, err := c.get(ctx, key)
	if err != nil || len(answer.Kvs) == 0 || string(answer.Kvs[0].Value) != value {
		return nil, nil, err
	}
	return []clientv3.Cmp{unchanged(key, answer.Kvs[0].ModRevision)}, []clientv3.Op{clientv3.OpDelete(key)}, nil
}

// adopt takes up what etcd has under this host's id though the host does not know that it holds it, and reports whether
// it has. It writes the key: a removal whose answer was lost may still be on its way, and is for the key as it was. The
// caller holds the network's lock.
func (c *Cluster) adopt(ctx context.Context, network string, subnet, block netip.Prefix) (bool, error) {
	lease, err := c.holding.await(ctx)
	if err != nil {
		return false, err
	}
	return c.adoptUnder(ctx, lease, network, subnet, block)
}

func (c *Cluster) adoptUnder(
	ctx context.Context, lease clientv3.LeaseID, network string, subnet, block netip.Prefix,
) (bool, error) {
	key := c.keys.block(network, subnet, block)
	own := clientv3.Compare(clientv3.Value(key), "=", c.id)
	ok, err := c.commit(ctx, "hold "+block.String(), []clientv3.Cmp{own},
		[]clientv3.Op{clientv3.OpPut(key, c.id, clientv3.WithLease(lease))})
	if err != nil || !ok {
		return false, err
	}
	return true, c.holding.putBlock(ctx, network, block)
}

// claim claims a whole block or a single address, which nobody has. The caller holds the network's lock.
func (c *Cluster) claim(ctx context.Context, network string, subnet, block netip.Prefix) (bool, error) {
	lease, err := c.holding.await(ctx)
	if err != nil {
		return false, err
	}
	ok, err := c.claimUnder(ctx, lease, network, subnet, block)
	if err != nil || !ok {
		return false, err
	}
	return true, c.holding.putBlock(ctx, network, block)
}

func (c *Cluster) claimUnder(
	ctx context.Context, lease clientv3.LeaseID, network string, subnet, block netip.Prefix,
) (bool, error) {
	key := c.keys.block(network, subnet, block)
	member := exists(c.keys.member(network, c.id)) // see finishLeaving
	compare := []clientv3.Cmp{member, missingBelow(key)}
	if block.Bits() != blockLength(subnet) {
		whole := c.keys.block(network, subnet, wholeBlock(subnet, block.Addr()))
		compare = []clientv3.Cmp{member, missing(key), missing(whole)}
	}
	return c.commit(ctx, "claim "+block.String(), compare,
		[]clientv3.Op{clientv3.OpPut(key, c.id, clientv3.WithLease(lease))})
}

// block returns the key of a whole block of a subnet or of a single address.
func (k keys) block(network string, subnet, block netip.Prefix) string {
	key := k.blocks(network) + hexOf(wholeBlock(subnet, block.Addr()).Addr())
	if block.Bits() == blockLength(subnet) {
		return key
	}
	return key + "/" + hexOf(block.Addr())
}

// hexOf has one length for each family, and the order of the addresses.
func hexOf(addr netip.Addr) string { return hex.EncodeToString(addr.AsSlice()) }

func addrOfHex(text string) (netip.Addr, bool) {
	b, err := hex.DecodeString(text)
	if err != nil {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(b)
}

// takenBlocks are the claims of a network: of whole blocks by their first addresses, and of single addresses.
type takenBlocks struct {
	whole  map[netip.Addr]string                // host
	single map[netip.Addr]map[netip.Addr]string // by the block's first address, by address: host
}

func (c *Cluster) readBlocks(ctx context.Context, network string) (takenBlocks, error) {
	t := takenBlocks{whole: map[netip.Addr]string{}, single: map[netip.Addr]map[netip.Addr]string{}}
	prefix := c.keys.blocks(network)
	records, _, err := c.list(ctx, prefix)
	if err != nil {
		return t, err
	}
	for _, r := range records {
		first, rest, isSingle := strings.Cut(strings.TrimPrefix(r.key, prefix), "/")
		block, ok := addrOfHex(first)
		addr, addrOK := addrOfHex(rest)
		switch {
		case ok && !isSingle:
			t.whole[block] = string(r.value)
		case ok && addrOK:
			if t.single[block] == nil {
				t.single[block] = map[netip.Addr]string{}
			}
			t.single[block][addr] = string(r.value)
		}
	}
	return t, nil
}

// holder returns the block or single address that an address is of, and the id of the host that holds it; empty: none.
func (t takenBlocks) holder(subnet netip.Prefix, addr netip.Addr) (netip.Prefix, string) {
	block := wholeBlock(subnet, addr)
	if host, ok := t.whole[block.Addr()]; ok {
		return block, host
	}
	return netip.PrefixFrom(addr, addr.BitLen()), t.single[block.Addr()][addr]
}

// of returns what a host holds of a subnet.
func (t takenBlocks) of(host string, subnet netip.Prefix) []netip.Prefix {
	return t.byHost(subnet)[host]
}

// byHost returns what each host holds of a subnet.
func (t takenBlocks) byHost(subnet netip.Prefix) map[string][]netip.Prefix {
	out := map[string][]netip.Prefix{}
	for first, host := range t.whole {
		if subnet.Contains(first) {
			out[host] = append(out[host], wholeBlock(subnet, first))
		}
	}
	for _, addresses := range t.single {
		for addr, host := range addresses {
			if subnet.Contains(addr) {
				out[host] = append(out[host], netip.PrefixFrom(addr, addr.BitLen()))
			}
		}
	}
	return out
}
