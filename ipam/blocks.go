// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"github.com/weaveplugin/weave/store"
)

// claimAhead has Run claim a block if this host has few addresses left in those that it holds, so that the next
// containers need not wait for etcd.
func (i *IPAM) claimAhead(id PoolID) {
	select {
	case i.scarce <- id:
	default: // it is at work
	}
}

// Run claims blocks before they are needed, and gives back what this host does not use when another host asks for it,
// until ctx ends.
func (i *IPAM) Run(ctx context.Context) error {
	if i.cluster == nil {
		<-ctx.Done()
		return nil
	}
	var group sync.WaitGroup // other hosts wait for what is given back: no claim may hold that up
	group.Go(func() { i.runAhead(ctx) })
	group.Go(func() { i.runGiveBack(ctx) })
	group.Wait()
	return nil
}

func (i *IPAM) runAhead(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-i.scarce:
			if err := i.claimIfScarce(ctx, id); err != nil {
				i.log.WithError(err).WithField("pool", id).Debug("no block could be claimed ahead")
			}
		}
	}
}

func (i *IPAM) runGiveBack(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-i.cluster.Asked():
			for _, network := range i.cluster.TakeAsked() {
				if err := i.giveBack(ctx, network); err != nil {
					i.log.WithError(err).WithField("network", network).Warn("addresses could not be given back")
				}
			}
		}
	}
}

// claimIfScarce claims a block if less than a quarter of one is free. Where a block is one address none is claimed
// ahead: it would be missed elsewhere.
func (i *IPAM) claimIfScarce(ctx context.Context, id PoolID) error {
	claim, err := i.claimOf(id)
	if err != nil {
		return err
	}
	size := claim.BlockSize()
	if size == 1 || i.freeInBlocks(id, size/4) >= size/4 {
		return nil
	}
	claim.Ahead = true
	_, err = i.cluster.ClaimBlock(ctx, claim)
	return err
}

// freeInBlocks counts the free addresses of a pool in the blocks of this host, up to enough.
func (i *IPAM) freeInBlocks(id PoolID, enough int) (n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p, ok := i.pools[id]
	if !ok {
		return enough
	}
	for _, b := range i.cluster.Blocks(p.network) {
		for addr := b.Addr(); b.Contains(addr) && n < enough; addr = addr.Next() {
			if p.alloc.inside(addr) && !p.isHeld(addr) {
				n++
			}
		}
	}
	return n
}

// giveBack gives back the blocks and single addresses of a network of which this host uses none. If there are none, it
// gives back the rest of blocks of which it uses a part.
func (i *IPAM) giveBack(ctx context.Context, network string) error {
	return i.changeOnly(ctx, func() error {
		for _, p := range i.pools {
			if p.network != network {
				continue
			}
			given, err := i.giveBackUnused(ctx, p)
			if err == nil && !given {
				err = i.giveBackRests(ctx, p)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (i *IPAM) giveBackUnused(ctx context.Context, p *pool) (given bool, err error) {
	var unused []netip.Prefix
	for _, b := range i.blocksOf(p) {
		if len(i.usedOf(p, b)) == 0 {
			unused = append(unused, b)
		}
	}
	if err := i.forgetFreed(ctx, p, unused); err != nil {
		return false, err
	}
	return len(unused) > 0, i.cluster.GiveBack(ctx, p.network, unused)
}

// enoughGiven is how many addresses a host that asks is given at least, if there are as many, of blocks of which a part
// is used: so it need not ask for each.
const enoughGiven = 16

// giveBackRests gives back the addresses that this host does not use of blocks of which it uses a part, those with the
// most of them first, until there are enough.
func (i *IPAM) giveBackRests(ctx context.Context, p *pool) error {
	used := map[netip.Prefix][]netip.Addr{}
	var blocks []netip.Prefix
	for _, b := range i.blocksOf(p) {
		if used[b] = i.usedOf(p, b); p.sizeOf(b) > len(used[b]) {
			blocks = append(blocks, b)
		}
	}
	slices.SortFunc(blocks, func(x, y netip.Prefix) int { return len(used[x]) - len(used[y]) })
	for given := 0; len(blocks) > 0 && given < enoughGiven; blocks = blocks[1:] {
		b := blocks[0]
		if err := i.forgetFreed(ctx, p, []netip.Prefix{b}); err != nil {
			return err
		}
		isGiven, err := i.cluster.GiveBackRest(ctx, p.network, b, used[b])
		if err != nil {
			return err
		}
		if isGiven {
			given += p.sizeOf(b) - len(used[b])
		}
	}
	return nil
}

// blocksOf returns the blocks and single addresses of a pool that this host holds.
func (i *IPAM) blocksOf(p *pool) []netip.Prefix {
	return slices.DeleteFunc(i.cluster.Blocks(p.network), func(b netip.Prefix) bool {
		return !p.subnet.Contains(b.Addr())
	})
}

// usedOf returns the addresses of a block that are in use here. The gateway's is not among them: each host has it.
func (i *IPAM) usedOf(p *pool, b netip.Prefix) (used []netip.Addr) {
	gateway := i.gatewayOf(p.network, p.subnet)
	for addr := range p.alloc.held {
		if b.Contains(addr) && addr != gateway {
			used = append(used, addr)
		}
	}
	return used
}

// sizeOf returns how many addresses of a block can be handed out.
func (p *pool) sizeOf(b netip.Prefix) (n int) {
	for addr := b.Addr(); b.Contains(addr); addr = addr.Next() {
		if p.alloc.inside(addr) {
			n++
		}
	}
	return n
}

// forgetFreed forgets which addresses of the blocks were freed, and by whom: another host hands them out from now on.
func (i *IPAM) forgetFreed(ctx context.Context, p *pool, blocks []netip.Prefix) error {
	var changes []store.Change
	var gone []netip.Addr
	for addr := range p.alloc.freedAt {
		for _, b := range blocks {
			if b.Contains(addr) {
				gone = append(gone, addr)
				changes = append(changes, store.Delete(p.addressKey(addr)))
			}
		}
	}
	if err := i.store.Apply(ctx, changes...); err != nil {
		return err
	}
	i.update(func() {
		for _, addr := range gone {
			p.alloc.removeFreed(addr)
		}
	})
	return nil
}
