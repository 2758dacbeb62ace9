// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// PoolID identifies a pool: SPACE/SUBNET, or SPACE/SUBNET/RANGE if the pool has a range.
type PoolID string

// PoolRequest says which pool is requested: one of a certain subnet, or of any free one.
type PoolRequest struct {
	Space  string       // LocalSpace or GlobalSpace
	Subnet netip.Prefix // zero: any free subnet
	Range  netip.Prefix // the part of Subnet that addresses are picked from; zero: all of it

	// Network is the network of the cluster whose addresses the pool hands out, beside other hosts; empty: this host's
	// alone. A network that there is already has its own subnet.
	Network string

	// Of any free subnet; both are zero beside a Subnet.
	IPv6 bool // an IPv6 subnet, not an IPv4 one
	Bits int  // its length; zero: the default
}

// subject describes the subnet that is requested, for errors.
func (r PoolRequest) subject() string {
	switch {
	case r.Subnet != netip.Prefix{}:
		return r.Subnet.String()
	case r.Bits != 0:
		return fmt.Sprintf("of any /%d", r.Bits)
	default:
		return "of any subnet"
	}
}

// named checks the request and returns the pool that it names, or nil if any free subnet will do.
func (r PoolRequest) named() (*pool, error) {
	unset := netip.Prefix{}
	switch {
	case r.Network != "" && r.Space == GlobalSpace:
		// What a manager requests the next one requests again, and the host of the first would hold it still.
		return nil, fmt.Errorf("%w: the addresses of Swarm's networks are its manager's business: name the network of "+
			"the cluster, %s, to the network driver (-o), not to its IPAM (--ipam-opt)", ErrInvalid, r.Network)
	case r.Subnet == unset && r.Range != unset:
		return nil, fmt.Errorf("%w: range %s: name its subnet too", ErrInvalid, r.Range)
	case r.Subnet == unset:
		return nil, checkSpace(r.Space)
	case r.IPv6 || r.Bits != 0:
		return nil, fmt.Errorf("%w: subnet %s: its family and length can't be requested besides", ErrInvalid, r.Subnet)
	}
	p, err := newPool(r.Space, r.Subnet, r.Range)
	if err != nil {
		return nil, err
	}
	p.network = r.Network
	if err := checkUsable(p.subnet); err != nil { // only of a new pool: one that an earlier weave has made stays
		return nil, err
	}
	return p, nil
}

// pool is a subnet whose addresses are handed out.
type pool struct {
	space     string
	subnet    netip.Prefix
	pickRange netip.Prefix // the part of subnet that addresses are picked from; zero: all of it
	network   string       // of the cluster; empty: the pool is this host's alone
	created   time.Time
	alloc     *allocator
}

// newPool checks what a pool is to be and makes it. It has to be opened before use.
func newPool(space string, subnet, pickRange netip.Prefix) (*pool, error) {
	if err := checkSpace(space); err != nil {
		return nil, err
	}
	if err := checkPrefix("subnet", subnet); err != nil {
		return nil, err
	}
	p := &pool{space: space, subnet: subnet, pickRange: pickRange}
	if pickRange == (netip.Prefix{}) {
		return p, nil
	}
	if err := checkPrefix("range", pickRange); err != nil {
		return nil, err
	}
	if !subnet.Contains(pickRange.Addr()) || pickRange.Bits() < subnet.Bits() {
		return nil, fmt.Errorf("%w: range %s is not within subnet %s", ErrInvalid, pickRange, subnet)
	}
	if first, last := usable(subnet, pickRange); last.Less(first) {
		return nil, fmt.Errorf("%w: range %s has no address that an endpoint can have", ErrInvalid, pickRange)
	}
	return p, nil
}

// id returns the pool's id. It tells all about the pool, and so is the same after a restart.
func (p *pool) id() PoolID {
	id := p.space + "/" + p.subnet.String()
	if p.pickRange.IsValid() {
		id += "/" + p.pickRange.String()
	}
	return PoolID(id)
}

// parsePoolID is the inverse of id.
func parsePoolID(id PoolID) (*pool, error) {
	part := strings.Split(string(id), "/")
	if len(part) != 3 && len(part) != 5 {
		return nil, fmt.Errorf("pool id %q: want SPACE/SUBNET or SPACE/SUBNET/RANGE", id)
	}
	subnet, err := netip.ParsePrefix(part[1] + "/" + part[2])
	if err != nil {
		return nil, fmt.Errorf("pool id %q: %w", id, err)
	}
	var pickRange netip.Prefix
	if len(part) == 5 {
		if pickRange, err = netip.ParsePrefix(part[3] + "/" + part[4]); err != nil {
			return nil, fmt.Errorf("pool id %q: %w", id, err)
		}
	}
	p, err := newPool(part[0], subnet, pickRange)
	if err != nil {
		return nil, fmt.Errorf("pool id %q: %w", id, err)
	}
	if p.id() != id {
		return nil, fmt.Errorf("pool id %q: want %q", id, p.id())
	}
	return p, nil
}

// open gives the pool the allocator that its record says.
func (p *pool) open(r poolRecord) {
	within := p.subnet
	if p.pickRange.IsValid() {
		within = p.pickRange
	}
	first, last := usable(p.subnet, within)
	p.created, p.network = r.Created, r.Network
	p.alloc = newAllocator(first, last, r.Cursor)
}

// isHeld reports whether the address is held.
func (p *pool) isHeld(addr netip.Addr) bool {
	_, held := p.alloc.held[addr]
	return held
}

// record returns the pool's record with the allocator's cursor.
func (p *pool) record() poolRecord {
	return poolRecord{Created: p.created, Cursor: p.alloc.cursor, Network: p.network}
}

// pick returns the address to hand out to owner, who may be unknown, or false when all are held.
func (p *pool) pick(now time.Time, owner string) (netip.Addr, bool) {
	if addr, ok := p.pickKnown(now, owner); ok {
		return addr, true
	}
	return p.alloc.pickNext()
}

// pickKnown returns an address that owner, or somebody unknown who may be back, has had. In the global space are a
// swarm's tasks, none of which comes back: whatever Docker makes in its place is a new one.
func (p *pool) pickKnown(now time.Time, owner string) (netip.Addr, bool) {
	switch {
	case owner != "":
		return p.alloc.pickOwn(owner)
	case p.space == LocalSpace:
		return p.alloc.pickFreed(now)
	}
	return netip.Addr{}, false
}

// check refuses an address that no endpoint can have in this pool. It may lie outside of the pool's range.
func (p *pool) check(addr netip.Addr) error {
	first, last := usable(p.subnet, p.subnet)
	switch {
	case !p.subnet.Contains(addr):
		return fmt.Errorf("%w: %s has %s to %s", ErrForeignAddress, p.subnet, first, last)
	case addr.Less(first):
		return fmt.Errorf("%w: it is the address of the network %s itself", ErrForeignAddress, p.subnet)
	case last.Less(addr):
		return fmt.Errorf("%w: it is the broadcast address of %s", ErrForeignAddress, p.subnet)
	}
	return nil
}
