// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/weaveplugin/weave/store"
)

// The records, by the prefixes of their keys.
const (
	poolPrefix    = "pool/"    // + the pool's id: poolRecord
	addressPrefix = "address/" // + SPACE/SUBNET/ADDRESS: addressRecord
	rangePrefix   = "range/"   // + "v4" or "v6": rangeRecord
)

// poolRecord is a pool. Its space, subnet and range are in the key.
type poolRecord struct {
	Created time.Time  `json:"created"`
	Cursor  netip.Addr `json:"cursor,omitzero"`   // the allocator's, as of its last eviction; zero: none so far
	Network string     `json:"network,omitempty"` // of the cluster; empty: the pool is this host's alone
}

// addressRecord is an address that is held or freed.
type addressRecord struct {
	Held     time.Time `json:"held,omitzero"`   // since when it is held; zero: it is freed
	Sequence uint64    `json:"sequence"`        // of a freed address: see freedAddress
	Freed    time.Time `json:"freed,omitzero"`  // likewise
	Owner    string    `json:"owner,omitempty"` // who has it or had it: the name of Docker's endpoint; empty: not known
}

// rangeRecord is a range that subnets are chosen from.
type rangeRecord struct {
	Range netip.Prefix `json:"range,omitzero"` // only of the random range of IPv6; zero: Options say it
	Next  netip.Addr   `json:"next,omitzero"`  // where the search for the next subnet begins
}

func (p *pool) key() string { return poolPrefix + string(p.id()) }

// addressPrefix is what the keys of the pool's addresses begin with. It has no range: pools of one space don't overlap.
func (p *pool) addressPrefix() string { return addressPrefix + p.space + "/" + p.subnet.String() + "/" }

func (p *pool) addressKey(addr netip.Addr) string { return p.addressPrefix() + addr.String() }

// Load reads the state from the store. Until it has succeeded, all calls that change the state fail.
func (i *IPAM) Load(ctx context.Context) error {
	if err := i.acquire(ctx); err != nil {
		return fmt.Errorf("load the state: %w", err)
	}
	defer i.writer.Release(1)
	pools, err := loadPools(ctx, i.store)
	if err != nil {
		return fmt.Errorf("load pools: %w", err)
	}
	if err := loadAddresses(ctx, i.store, pools); err != nil {
		return fmt.Errorf("load addresses: %w", err)
	}
	ranges, err := store.Load[rangeRecord](ctx, i.store, rangePrefix)
	if err != nil {
		return fmt.Errorf("load ranges: %w", err)
	}
	i.v4.next = ranges[i.v4.key].Next
	i.v6.next = ranges[i.v6.key].Next
	if !i.v6.prefix.IsValid() || i.v6.random {
		if i.v6.prefix, err = ulaRange(ranges[i.v6.key]); err != nil {
			return fmt.Errorf("record %s: %w", i.v6.key, err)
		}
		i.v6.random = true
	}
	i.update(func() { i.pools = pools })
	return nil
}

func loadPools(ctx context.Context, s store.Store) (map[PoolID]*pool, error) {
	records, err := store.Load[poolRecord](ctx, s, poolPrefix)
	if err != nil {
		return nil, err
	}
	pools := make(map[PoolID]*pool, len(records))
	for key, r := range records {
		p, err := parsePoolID(PoolID(strings.TrimPrefix(key, poolPrefix)))
		if err != nil {
			return nil, fmt.Errorf("record %s: %w: %w", key, store.ErrDamaged, err)
		}
		p.open(r)
		pools[p.id()] = p
	}
	return pools, nil
}

func loadAddresses(ctx context.Context, s store.Store, pools map[PoolID]*pool) error {
	records, err := store.Load[addressRecord](ctx, s, addressPrefix)
	if err != nil {
		return err
	}
	byPrefix := make(map[string]*pool, len(pools))
	for _, p := range pools {
		byPrefix[p.addressPrefix()] = p
	}
	freed := map[*pool][]freedAddress{}
	for key, r := range records {
		cut := strings.LastIndexByte(key, '/') + 1
		p := byPrefix[key[:cut]]
		addr, err := netip.ParseAddr(key[cut:])
		if err != nil || p == nil || !p.subnet.Contains(addr) || r.Held.IsZero() && !p.alloc.inside(addr) {
			return fmt.Errorf("record %s: %w: it is of no pool", key, store.ErrDamaged)
		}
		if r.Held.IsZero() {
			freed[p] = append(freed[p], freedAddress{addr, r.Sequence, r.Freed, r.Owner})
		} else {
			p.alloc.hold(addr, r.Held, r.Owner)
		}
	}
	for p, f := range freed {
		p.alloc.restore(f)
	}
	return nil
}

// ulaBits is the length of a range of unique local addresses: fd00::/8 and 40 random bits (RFC 4193, 3.2.1).
const ulaBits = 48

// ulaRange returns the range of unique local addresses that r has, or a new one. A new one is written with the first
// subnet that is chosen from it.
func ulaRange(r rangeRecord) (netip.Prefix, error) {
	if r.Range.IsValid() {
		addr := r.Range.Addr()
		if r.Range.Bits() != ulaBits || !addr.Is6() || !addr.IsPrivate() || r.Range.Masked() != r.Range {
			return netip.Prefix{}, fmt.Errorf("%w: range %s: want a /%d of fd00::/8",
				store.ErrDamaged, r.Range, ulaBits)
		}
		return r.Range, nil
	}
	b := [16]byte{0xfd}
	if _, err := rand.Read(b[1 : ulaBits/8]); err != nil {
		return netip.Prefix{}, fmt.Errorf("make the range of IPv6: %w", err)
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), ulaBits), nil
}
