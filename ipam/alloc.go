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

// allocator decides which address of a range comes next. An address of the range is held, freed, or neither. Those that
// are neither come first, in order; then the freed ones, the longest freed first. What it needs in memory and time goes
// with the addresses that were used, not with the size of the range.
//
// At most maxFreed freed addresses are remembered: the longest freed of more is forgotten, and is then neither. The
// cursor has passed it, and comes round to it when it has been through the rest of the range: so it still waits longer
// than any address that was never used, and less long than those freed after it.
type allocator struct {
	first, last netip.Addr // the range, inclusive; addresses outside can be held, but are never picked
	size        uint64     // of the range, saturated
	cursor      netip.Addr // where to look for the next address that is neither held nor freed
	held        map[netip.Addr]time.Time
	heldInside  uint64                       // how many of held are of the range
	freed       *list.List                   // of freedAddress, longest freed first; all of the range
	index       map[netip.Addr]*list.Element // into freed
	sequence    uint64                       // of the next address that is freed
}

type freedAddress struct {
	address  netip.Addr
	sequence uint64
}

// newAllocator makes an allocator for the range first to last, whose cursor stands at cursor (zero: first).
func newAllocator(first, last, cursor netip.Addr) *allocator {
	a := &allocator{
		first: first, last: last, size: distance(first, last), cursor: cursor,
		held: map[netip.Addr]time.Time{}, freed: list.New(), index: map[netip.Addr]*list.Element{},
	}
	if !a.inside(cursor) {
		a.cursor = first
	}
	return a
}

// distance counts the addresses from first to last, which are of one family: at most math.MaxUint64.
func distance(first, last netip.Addr) uint64 {
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

// free counts the addresses that pick can still answer, at most math.MaxUint64.
func (a *allocator) free() uint64 { return a.size - a.heldInside }

// pick returns the address that is due next, or false when all are held. It changes nothing but where the search goes
// on from: hold takes the address.
func (a *allocator) pick() (netip.Addr, bool) {
	if a.size-a.heldInside > uint64(a.freed.Len()) {
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

func (a *allocator) used(addr netip.Addr) bool {
	_, held := a.held[addr]
	return held || a.index[addr] != nil
}

// hold marks addr as held; one that is held already is so from now on.
func (a *allocator) hold(addr netip.Addr, now time.Time) {
	if _, again := a.held[addr]; again {
		a.held[addr] = now
		return
	}
	if e := a.index[addr]; e != nil {
		a.freed.Remove(e)
		delete(a.index, addr)
	}
	a.held[addr] = now
	if a.inside(addr) {
		a.heldInside++
	}
}

// release marks addr, which is held, as freed.
func (a *allocator) release(addr netip.Addr) {
	delete(a.held, addr)
	if !a.inside(addr) {
		return
	}
	a.heldInside--
	if oldest, full := a.due(); full {
		a.freed.Remove(a.index[oldest])
		delete(a.index, oldest)
	}
	a.index[addr] = a.freed.PushBack(freedAddress{address: addr, sequence: a.sequence})
	a.sequence++
}

// due returns the address that has to be forgotten before one more is freed.
func (a *allocator) due() (netip.Addr, bool) {
	if a.freed.Len() < maxFreed {
		return netip.Addr{}, false
	}
	return a.freed.Front().Value.(freedAddress).address, true
}

// restore puts back what was freed before a restart.
func (a *allocator) restore(freed []freedAddress) {
	slices.SortFunc(freed, func(x, y freedAddress) int { return cmp.Compare(x.sequence, y.sequence) })
	for _, f := range freed {
		a.index[f.address] = a.freed.PushBack(f)
		a.sequence = f.sequence + 1
	}
}
