package ipam

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/weaveplugin/weave/store"
)

// pool is a subnet that Docker has asked for.
type pool struct {
	space   string
	subnet  netip.Prefix
	subPool netip.Prefix // zero: none; the part of subnet that addresses are picked from
	created time.Time
	alloc   *allocator
}

// id is what Docker knows the pool by. It says all about the pool, so it is the same after a restart.
func (p *pool) id() string {
	id := p.space + "/" + p.subnet.String()
	if p.subPool.IsValid() {
		id += "/" + p.subPool.String()
	}
	return id
}

// parsePoolID is the inverse of id.
func parsePoolID(id string) (*pool, error) {
	part := strings.Split(id, "/")
	if len(part) != 3 && len(part) != 5 {
		return nil, fmt.Errorf("pool id %q: want SPACE/SUBNET or SPACE/SUBNET/SUBPOOL", id)
	}
	subPool := ""
	if len(part) == 5 {
		subPool = part[3] + "/" + part[4]
	}
	p, err := newPool(part[0], part[1]+"/"+part[2], subPool)
	if err != nil {
		return nil, err
	}
	if p.id() != id {
		return nil, fmt.Errorf("pool id %q: want %q", id, p.id())
	}
	return p, nil
}

// Prefixes that no pool can be of: loopback, link-local IPv6 and multicast.
var unusable = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// Usable reports whether no address of p is one that an endpoint can't have.
func Usable(p netip.Prefix) bool {
	_, out := overlapping(p, unusable)
	return !out
}

// newPool checks what Docker asks for and makes a pool of it, which has to be opened before use.
func newPool(space, subnet, subPool string) (*pool, error) {
	if space != LocalSpace && space != GlobalSpace {
		return nil, fmt.Errorf("%w: address space %q: want %s or %s", ErrInvalid, space, LocalSpace, GlobalSpace)
	}
	p := &pool{space: space}
	var err error
	if p.subnet, err = parseSubnet(subnet); err != nil {
		return nil, err
	}
	if q, ok := overlapping(p.subnet, unusable); ok {
		return nil, fmt.Errorf("%w: subnet %s: overlaps %s, which no endpoint can have addresses of", ErrInvalid, p.subnet, q)
	}
	if subPool == "" {
		return p, nil
	}
	if p.subPool, err = parseSubnet(subPool); err != nil {
		return nil, err
	}
	if !p.subnet.Contains(p.subPool.Addr()) || p.subPool.Bits() < p.subnet.Bits() {
		return nil, fmt.Errorf("%w: range %s is not within subnet %s", ErrInvalid, p.subPool, p.subnet)
	}
	if first, last := usable(p.subnet, p.subPool); last.Less(first) {
		return nil, fmt.Errorf("%w: range %s has no address that an endpoint can have", ErrInvalid, p.subPool)
	}
	return p, nil
}

// open gives the pool its allocator.
func (p *pool) open(r poolRecord) {
	within := p.subnet
	if p.subPool.IsValid() {
		within = p.subPool
	}
	first, last := usable(p.subnet, within)
	p.created = r.Created
	p.alloc = newAllocator(first, last, r.Cursor)
}

// check says whether addr can be an endpoint's in this pool. It may be outside of the sub-pool.
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

// subnets is a range that subnets are carved from when Docker names none.
type subnets struct {
	key    string       // of its record
	prefix netip.Prefix // the range
	bits   int          // length of a subnet
	next   netip.Addr   // where to look for the next one
	random bool         // the range was made here, and is in the record
}

// put is the change that moves the range on past p: a subnet that is released is not handed out again before the others.
func (s *subnets) put(p netip.Prefix) (store.Change, error) {
	r := rangeRecord{Next: lastOf(p).Next()}
	if s.random {
		r.Range = s.prefix
	}
	return store.Put(s.key, r)
}

// hostRoutes returns the destinations of the host's routes but for the default routes.
func (i *IPAM) hostRoutes(ctx context.Context) ([]netip.Prefix, error) {
	all, err := i.routes(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the host's routes: %w", err)
	}
	var out []netip.Prefix
	for _, r := range all {
		if r.Bits() > 0 {
			out = append(out, r.Masked())
		}
	}
	return out, nil
}

// choosePool adds a pool of the given length in space, which overlaps neither another pool of the space nor a route of
// the host. The caller holds the lock.
func (i *IPAM) choosePool(ctx context.Context, space string, s *subnets, bits int, routes []netip.Prefix) (*pool, error) {
	var taken []netip.Prefix
	for _, p := range i.pools {
		if p.space == space {
			taken = append(taken, p.subnet)
		}
	}
	n := len(taken)
	taken = append(taken, routes...)
	if bits < s.prefix.Bits() || bits > s.prefix.Addr().BitLen() {
		return nil, fmt.Errorf("%w: a subnet of /%d: the range %s has none", ErrInvalid, bits, s.prefix)
	}
	subnet, ok := carve(s.prefix, bits, s.next, taken)
	if !ok {
		return nil, fmt.Errorf("%w: no /%d of %s is free beside %d pools and %d routes of the host: "+
			"name a subnet (docker network create --subnet), or give weave another range",
			ErrPoolExhausted, bits, s.prefix, n, len(routes))
	}
	p, err := newPool(space, subnet.String(), "")
	if err != nil {
		return nil, err
	}
	put, err := s.put(subnet)
	if err != nil {
		return nil, err
	}
	if err := i.addPool(ctx, p, put); err != nil {
		return nil, err
	}
	s.next = lastOf(subnet).Next()
	return p, nil
}

// givenPool adds the pool p, or returns the one of the global space that is like it: a new leader of a swarm asks again
// for what an earlier one was given. The caller holds the lock.
func (i *IPAM) givenPool(ctx context.Context, p *pool) (*pool, error) {
	if same, ok := i.pools[p.id()]; ok && p.space == GlobalSpace {
		return same, nil
	}
	for _, other := range i.pools {
		if other.space == p.space && other.subnet.Overlaps(p.subnet) {
			return nil, fmt.Errorf("%w: %s: name another subnet, or remove the network that has it first",
				ErrPoolOverlap, other.id())
		}
	}
	return p, i.addPool(ctx, p)
}

// addPool writes p, with further changes, and adds it.
func (i *IPAM) addPool(ctx context.Context, p *pool, more ...store.Change) error {
	r := poolRecord{Created: i.now()}
	put, err := store.Put(p.key(), r)
	if err != nil {
		return err
	}
	if err := i.store.Apply(ctx, append(more, put)...); err != nil {
		return err
	}
	p.open(r)
	i.pools[p.id()] = p
	return nil
}

// removePool removes p with all its addresses. The caller holds the lock.
func (i *IPAM) removePool(ctx context.Context, p *pool) error {
	changes := []store.Change{store.Delete(p.key())}
	for addr := range p.alloc.held {
		changes = append(changes, store.Delete(p.addressKey(addr)))
	}
	for addr := range p.alloc.index {
		changes = append(changes, store.Delete(p.addressKey(addr)))
	}
	if err := i.store.Apply(ctx, changes...); err != nil {
		return err
	}
	delete(i.pools, p.id())
	return nil
}

// holdAddress gives out addr, or the next address when addr is zero. The caller holds the lock.
func (i *IPAM) holdAddress(ctx context.Context, p *pool, addr netip.Addr) (netip.Addr, error) {
	if addr.IsValid() {
		if err := p.check(addr); err != nil {
			return addr, err
		}
		switch since, held := p.alloc.held[addr]; {
		case held && p.space == GlobalSpace:
			return addr, nil // as with pools, a new leader asks again
		case held && !i.vacant(p.space, p.subnet, addr, since):
			return addr, fmt.Errorf("%w: name another one, or remove the endpoint that has it first", ErrAddressInUse)
		}
	} else {
		var ok bool
		if addr, ok = p.alloc.pick(); !ok {
			return addr, fmt.Errorf("%w: all %d addresses are in use: remove endpoints, or make a network with a larger subnet",
				ErrPoolExhausted, p.alloc.size)
		}
	}
	now := i.now()
	put, err := store.Put(p.addressKey(addr), addressRecord{Held: now})
	if err != nil {
		return addr, err
	}
	if err := i.store.Apply(ctx, put); err != nil {
		return addr, err
	}
	p.alloc.hold(addr, now)
	return addr, nil
}

// releaseAddress takes addr, which is held, back. The caller holds the lock.
func (i *IPAM) releaseAddress(ctx context.Context, p *pool, addr netip.Addr) error {
	changes, err := p.releasing(addr)
	if err != nil {
		return err
	}
	if err := i.store.Apply(ctx, changes...); err != nil {
		return err
	}
	p.alloc.release(addr)
	return nil
}

// releasing returns the changes that the release of addr makes.
func (p *pool) releasing(addr netip.Addr) ([]store.Change, error) {
	if !p.alloc.inside(addr) {
		return []store.Change{store.Delete(p.addressKey(addr))}, nil
	}
	put, err := store.Put(p.addressKey(addr), addressRecord{Sequence: p.alloc.sequence})
	if err != nil {
		return nil, err
	}
	oldest, full := p.alloc.due()
	if !full {
		return []store.Change{put}, nil
	}
	// The records show where the cursor is as long as each address behind it has one.
	cursor, err := store.Put(p.key(), poolRecord{Created: p.created, Cursor: p.alloc.cursor})
	return []store.Change{put, store.Delete(p.addressKey(oldest)), cursor}, err
}
