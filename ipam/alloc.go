// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"container/list"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"time"
)

// maxFreed bounds how many freed addresses of a pool are remembered.
const maxFreed = 65536

// returnTime is how long a container that stops is expected back before others: longer than Docker waits before it
// restarts one that fails again and again.
const returnTime = time.Minute

// allocator decides which address of a range is handed out next. An address of the range is held, or freed (it was
// released), or unused. What comes next depends on what is known of who asks: see pickOwn, pickFreed and pickNext.
// Memory and time depend on how many addresses were handed out, not on the size of the range.
//
// At most maxFreed freed addresses are remembered. When another one is freed, the one that was freed longest ago is
// evicted and counts as unused. The cursor has passed it, and comes back to it after the rest of the range: so pickNext
// returns it after the addresses that were never used, and before those that were freed later.
type allocator struct {
	first, last netip.Addr // the range, inclusive; addresses outside of it can be held, but are never picked
	size        uint64     // number of addresses in the range, at most math.MaxUint64
	cursor      netip.Addr // where the search for the next unused address begins
	held        map[netip.Addr]time.Time
	owners      map[netip.Addr]string        // of held addresses, as far as they are known
	heldInside  uint64                       // how many of held are in the range
	freed       *list.List                   // of freedAddress, freed longest ago first; all are in the range
	freedAt     map[netip.Addr]*list.Element // the element of freed that has the address
	sequence    uint64                       // of the next address that is freed
}

type freedAddress struct {
	address  netip.Addr
	sequence uint64    // grows with every address that is freed
	at       time.Time // when it was freed; zero: not known
	owner    string    // who had it; empty: not known
}

// newAllocator makes an allocator for the range first to last. A cursor that is not in the range, such as the zero one,
// begins at first.
func newAllocator(first, last, cursor netip.Addr) *allocator {
	a := &allocator{
		first: first, last: last, size: countAddresses(first, last), cursor: cursor,
		held: map[netip.Addr]time.Time{}, owners: map[netip.Addr]string{},
		freed: list.New(), freedAt: map[netip.Addr]*list.Element{},
	}
	if !a.inside(cursor) {
		a.cursor = first
	}
	return a
}

// countAddresses returns the number of addresses from first to last, which are of one family, but at most
// math.MaxUint64.
func countAddresses(first, last netip.Addr) uint64 {
	if last.Less(first) {
		return 0
	}
	f, l := first.As16(), last.As16()
	high := binary.BigEndian.Uint64(l[:8]) - binary.BigEndian.Uint64(f[:8])
	low := binary.BigEndian.Uint64(l[8:]) - binary.BigEndian.Uint64(f[8:])
	borrow := binary.BigEndian.Uint64(l[8:]) < binary.BigEndian.Uint64(f[8:])
	if high > 1 || high == 1 && !borrow || low == math.MaxUint64 {
		return math.MaxUint64
	}
	return low + 1
}

func (a *allocator) inside(addr netip.Addr) bool {
	return addr.BitLen() == a.first.BitLen() && !addr.Less(a.first) && !a.last.Less(addr)
}

// free returns how many addresses can still be picked, at most math.MaxUint64.
func (a *allocator) free() uint64 { return a.size - a.heldInside }

// pickOwn returns the address that owner has freed last, or false if there is none.
func (a *allocator) pickOwn(owner string) (netip.Addr, bool) {
	for e := a.freed.Back(); e != nil; e = e.Prev() {
		if f := e.Value.(freedAddress); f.owner == owner {
			return f.address, true
		}
	}
	return netip.Addr{}, false
}

// pickFreed returns an address for somebody unknown who may have freed it: the lowest of those that were freed within
// returnTime, or else the lowest of all freed ones. A container that restarts so gets its address again, also while
// others are stopped; and so do containers that are started in the order in which they were first started. It returns
// false if no address is freed.
func (a *allocator) pickFreed(now time.Time) (netip.Addr, bool) {
	var lowest, awaited netip.Addr
	for e := a.freed.Back(); e != nil; e = e.Prev() {
		f := e.Value.(freedAddress)
		if !lowest.IsValid() || f.address.Less(lowest) {
			lowest = f.address
		}
		if now.Sub(f.at) < returnTime && (!awaited.IsValid() || f.address.Less(awaited)) {
			awaited = f.address
		}
	}
	if awaited.IsValid() {
		return awaited, true
	}
	return lowest, lowest.IsValid()
}

// pickNext returns an address for somebody new, or false when all are held: unused addresses come first, in order; then
// the freed ones, the one that was freed longest ago first. So what one container has just had is not soon another's.
// The address is not held by that: it moves only the cursor.
func (a *allocator) pickNext() (netip.Addr, bool) {
	if a.free() > uint64(a.freed.Len()) {
		for a.used(a.cursor) {
			if a.cursor == a.last {
				a.cursor = a.first
			} else {
				a.cursor = a.cursor.Next()
			}
		}
		return a.cursor, true
	}
	if oldest := a.freed.Front(); oldest != nil {
		return oldest.Value.(freedAddress).address, true
	}
	return netip.Addr{}, false
}

// pickWithin is pickNext for a host that may hand out the addresses of some blocks alone, without one that is reserved.
// It does not move the cursor.
func (a *allocator) pickWithin(blocks []netip.Prefix, reserved netip.Addr) (netip.Addr, bool) {
	for _, b := range blocks {
		for addr := b.Addr(); b.Contains(addr); addr = addr.Next() {
			if a.inside(addr) && !a.used(addr) && addr != reserved {
				return addr, true
			}
		}
	}
	for e := a.freed.Front(); e != nil; e = e.Next() {
		addr := e.Value.(freedAddress).address
		if slices.ContainsFunc(blocks, func(b netip.Prefix) bool { return b.Contains(addr) }) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

// used reports whether the address is held or freed.
func (a *allocator) used(addr netip.Addr) bool {
	_, held := a.held[addr]
	return held || a.freedAt[addr] != nil
}

// hold marks addr as held since now by owner, who may be unknown, also if it was held before.
func (a *allocator) hold(addr netip.Addr, now time.Time, owner string) {
	delete(a.owners, addr)
	if owner != "" {
		a.owners[addr] = owner
	}
	if _, again := a.held[addr]; again {
		a.held[addr] = now
		return
	}
	if a.freedAt[addr] != nil {
		a.removeFreed(addr)
	}
	a.held[addr] = now
	if a.inside(addr) {
		a.heldInside++
	}
}

// release marks addr, which is held, as freed now.
func (a *allocator) release(addr netip.Addr, now time.Time) {
	f := freedAddress{address: addr, sequence: a.sequence, at: now, owner: a.owners[addr]}
	delete(a.held, addr)
	delete(a.owners, addr)
	if !a.inside(addr) {
		return
	}
	a.heldInside--
	if oldest, full := a.nextEviction(); full {
		a.removeFreed(oldest)
	}
	a.appendFreed(f)
}

// nextEviction returns the address that release evicts, if it has to evict one.
func (a *allocator) nextEviction() (netip.Addr, bool) {
	if a.freed.Len() < maxFreed {
		return netip.Addr{}, false
	}
	return a.freed.Front().Value.(freedAddress).address, true
}

// restore adds the addresses that were freed before a restart.
func (a *allocator) restore(freed []freedAddress) {
	slices.SortFunc(freed, func(x, y freedAddress) int { return cmp.Compare(x.sequence, y.sequence) })
	for _, f := range freed {
		a.appendFreed(f)
	}
}

func (a *allocator) appendFreed(f freedAddress) {
	a.freedAt[f.address] = a.freed.PushBack(f)
	a.sequence = f.sequence + 1
}

func (a *allocator) removeFreed(addr netip.Addr) {
	a.freed.Remove(a.freedAt[addr])
	delete(a.freedAt, addr)
}
