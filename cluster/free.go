// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"net/netip"

	"github.com/weaveplugin/weave/internal/prefix"
)

// A subnet is cut into blocks of one size. A host claims whole blocks, out of which it hands out addresses without
// asking anybody; and single addresses, of blocks that nobody has as a whole: those that a user names, and the last
// ones of a subnet. The keys of a block's addresses begin with the block's own, so that one comparison finds a block
// whole.
const (
	// countBits makes 64 blocks of a subnet at least, so that as many hosts get one of their own.
	countBits = 6
	// maxBlockBits limits a block to 256 addresses.
	maxBlockBits = 8
)

// blockLength returns the prefix length of the blocks of a subnet. Subnets of at most 64 addresses are handed out
// address by address, so that each host can have the last one.
func blockLength(subnet netip.Prefix) int {
	hostBits := subnet.Addr().BitLen() - subnet.Bits()
	return subnet.Addr().BitLen() - min(max(hostBits-countBits, 0), maxBlockBits)
}

// wholeBlock returns the block of a subnet that an address is in.
func wholeBlock(subnet netip.Prefix, addr netip.Addr) netip.Prefix {
	return netip.PrefixFrom(addr, blockLength(subnet)).Masked()
}

// Claim is what a host asks for.
type Claim struct {
	Network     string
	Subnet      netip.Prefix
	First, Last netip.Addr                 // of the addresses that can be handed out
	Taken       func(addr netip.Addr) bool // addresses that are nobody's to have: the gateway's
	Ahead       bool                       // of the need: other hosts are not asked for anything
}

// BlockSize returns how many addresses a block of the subnet has.
func (claim Claim) BlockSize() int {
	return 1 << (claim.Subnet.Addr().BitLen() - blockLength(claim.Subnet))
}

// maxCandidates is how many free blocks are looked for. When many hosts claim one at the same time, each tries one of
// these.
const maxCandidates = 64

// candidates returns free blocks, lowest first, or free addresses if no whole block is free.
func (claim Claim) candidates(taken takenBlocks) []netip.Prefix {
	length := blockLength(claim.Subnet)
	var blocks, singles []netip.Prefix
	for b := wholeBlock(claim.Subnet, claim.First); b.IsValid() && !claim.Last.Less(b.Addr()); b = next(b) {
		_, isTaken := taken.whole[b.Addr()]
		switch {
		case isTaken || length == b.Addr().BitLen() && claim.Taken(b.Addr()):
		case len(taken.single[b.Addr()]) == 0 && claim.wantsWhole(b):
			blocks = append(blocks, b)
		case len(singles) < maxCandidates:
			singles = append(singles, claim.singlesOf(b, taken.single[b.Addr()])...)
		}
		if len(blocks) == maxCandidates {
			break
		}
	}
	if len(blocks) > 0 {
		return blocks
	}
	return singles
}

// wantsWhole reports whether a block is within what can be handed out. At an edge of the subnet it is, too: nobody can
// hand out the network's own address and the broadcast address.
func (claim Claim) wantsWhole(b netip.Prefix) bool {
	first, last := b.Addr(), prefix.Last(b)
	atStart := first == claim.Subnet.Addr() && claim.First == first.Next()
	atEnd := last == prefix.Last(claim.Subnet) && (claim.Last == last || claim.Last.Next() == last)
	return (atStart || !first.Less(claim.First)) && (atEnd || !claim.Last.Less(last))
}

// singlesOf returns the free addresses of a block that is not free as a whole.
func (claim Claim) singlesOf(b netip.Prefix, taken map[netip.Addr]string) []netip.Prefix {
	var out []netip.Prefix
	for a := b.Addr(); b.Contains(a); a = a.Next() {
		_, isTaken := taken[a]
		if !isTaken && !a.Less(claim.First) && !claim.Last.Less(a) && !claim.Taken(a) {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}

// next returns the block after b; it is not valid after the last one of all.
func next(b netip.Prefix) netip.Prefix { return netip.PrefixFrom(prefix.Last(b).Next(), b.Bits()) }
