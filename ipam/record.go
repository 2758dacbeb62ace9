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

// poolRecord is a pool; its key has the rest.
type poolRecord struct {
	Created time.Time  `json:"created"`
	Cursor  netip.Addr `json:"cursor,omitzero"` // the allocator's, as it stood when an address was forgotten last
}

// addressRecord is an address that is held, or was.
type addressRecord struct {
	Held     time.Time `json:"held,omitzero"` // since when
	Sequence uint64    `json:"sequence"`      // of a freed address: the order in which they were freed
}

// rangeRecord is where subnets are carved from when Docker names none.
type rangeRecord struct {
	Range netip.Prefix `json:"range,omitzero"` // only the random one of IPv6
	Next  netip.Addr   `json:"next,omitzero"`  // where to look for the next subnet
}

func (p *pool) key() string { return poolPrefix + p.id() }

func (p *pool) addressKey(addr netip.Addr) string {
	return addressPrefix + p.space + "/" + p.subnet.String() + "/" + addr.String()
}

// Load reads the state from the store. Until it has, Docker's calls are refused.
func (i *IPAM) Load(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
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
	i.pools = pools
	return nil
}

func loadPools(ctx context.Context, s store.Store) (map[string]*pool, error) {
	records, err := store.Load[poolRecord](ctx, s, poolPrefix)
	if err != nil {
		return nil, err
	}
	pools := make(map[string]*pool, len(records))
	for key, r := range records {
		p, err := parsePoolID(strings.TrimPrefix(key, poolPrefix))
		if err != nil {
			return nil, fmt.Errorf("record %s: %w: %w", key, store.ErrDamaged, err)
		}
		p.open(r)
		pools[p.id()] = p
	}
	return pools, nil
}

func loadAddresses(ctx context.Context, s store.Store, pools map[string]*pool) error {
	records, err := store.Load[addressRecord](ctx, s, addressPrefix)
	if err != nil {
		return err
	}
	bySubnet := make(map[string]*pool, len(pools)) // by the beginning of their addresses' keys
	for _, p := range pools {
		bySubnet[strings.TrimSuffix(p.addressKey(netip.Addr{}), netip.Addr{}.String())] = p
	}
	freed := map[*pool][]freedAddress{}
	for key, r := range records {
		cut := strings.LastIndexByte(key, '/') + 1
		p := bySubnet[key[:cut]]
		addr, err := netip.ParseAddr(key[cut:])
		if err != nil || p == nil || !p.subnet.Contains(addr) || r.Held.IsZero() && !p.alloc.inside(addr) {
			return fmt.Errorf("record %s: %w: it is of no pool", key, store.ErrDamaged)
		}
		if r.Held.IsZero() {
			freed[p] = append(freed[p], freedAddress{address: addr, sequence: r.Sequence})
		} else {
			p.alloc.hold(addr, r.Held)
		}
	}
	for p, f := range freed {
		p.alloc.restore(f)
	}
	return nil
}

// ulaRange returns the range of unique local addresses that r has, or a new one: fd00::/8 and 40 random bits (RFC 4193,
// 3.2.1). A new one is written with the first subnet that is carved from it.
func ulaRange(r rangeRecord) (netip.Prefix, error) {
	if r.Range.IsValid() {
		if addr := r.Range.Addr(); r.Range.Bits() != ulaBits || !addr.Is6() || !addr.IsPrivate() || r.Range.Masked() != r.Range {
			return netip.Prefix{}, fmt.Errorf("%w: range %s: want a /%d of fd00::/8", store.ErrDamaged, r.Range, ulaBits)
		}
		return r.Range, nil
	}
	b := [16]byte{0xfd}
	if _, err := rand.Read(b[1 : ulaBits/8]); err != nil {
		return netip.Prefix{}, fmt.Errorf("make the range of IPv6: %w", err)
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), ulaBits), nil
}
