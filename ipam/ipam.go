// Package ipam implements Docker's IpamDriver: pools and addresses. It is bookkeeping over the store, and makes no system
// call that depends on a network namespace; what the host's routes are it is told.
package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	docker "github.com/docker/go-plugins-helpers/ipam"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/store"
)

// The address spaces. A subnet may be in both: a swarm's leader asks for it in the global space, and each node that runs
// one of its tasks in its local space.
const (
	LocalSpace  = "weavelocal"
	GlobalSpace = "weaveglobal"
)

// DefaultSubnetBits is the length of an IPv4 subnet by default: it has as many addresses as a bridge has ports.
const DefaultSubnetBits = 22

// DefaultRangeV4 returns where IPv4 subnets come from by default.
func DefaultRangeV4() netip.Prefix { return netip.MustParsePrefix("10.32.0.0/12") }

const (
	ulaBits      = 48 // length of the random IPv6 range
	subnetBitsV6 = 64
)

// Options are what an IPAM needs.
type Options struct {
	Store store.Store   // required
	Log   *logrus.Entry // required

	// Routes returns the destinations of the host's routes, in which no subnet is chosen. Required.
	Routes func(ctx context.Context) ([]netip.Prefix, error)

	// Vacant reports that an address of the pool, though held since then, is surely nobody's: Docker forgets endpoints
	// without releasing their addresses when it was killed. A container that asks for such an address by name gets it.
	// Optional.
	Vacant func(space string, subnet netip.Prefix, addr netip.Addr, since time.Time) bool

	RangeV4    netip.Prefix // where IPv4 subnets come from; zero: DefaultRangeV4
	SubnetBits int          // length of an IPv4 subnet; zero: DefaultSubnetBits
	RangeV6    netip.Prefix // where IPv6 subnets, /64, come from; zero: a random /48 of unique local addresses
}

// IPAM hands out pools and addresses. Its methods may be called from several goroutines at once.
type IPAM struct {
	store  store.Store
	log    *logrus.Entry
	routes func(ctx context.Context) ([]netip.Prefix, error)
	vacant func(space string, subnet netip.Prefix, addr netip.Addr, since time.Time) bool

	mu     sync.Mutex
	pools  map[string]*pool // by id; nil: not loaded yet
	v4, v6 subnets
}

// New checks the options and makes an IPAM, which has to Load before its first call.
func New(o Options) (*IPAM, error) {
	if o.Store == nil || o.Log == nil || o.Routes == nil {
		return nil, errors.New("ipam: Store, Log and Routes are required")
	}
	if !o.RangeV4.IsValid() {
		o.RangeV4 = DefaultRangeV4()
	}
	if o.SubnetBits == 0 {
		o.SubnetBits = DefaultSubnetBits
	}
	if !o.RangeV4.Addr().Is4() || o.RangeV4.Masked() != o.RangeV4 {
		return nil, fmt.Errorf("range %s: want an IPv4 subnet like %s", o.RangeV4, DefaultRangeV4())
	}
	if o.SubnetBits < o.RangeV4.Bits() || o.SubnetBits > 30 {
		return nil, fmt.Errorf("subnet length %d: want %d (the range) to 30", o.SubnetBits, o.RangeV4.Bits())
	}
	if r := o.RangeV6; r.IsValid() && (!r.Addr().Is6() || r.Addr().Is4In6() || r.Masked() != r || r.Bits() > subnetBitsV6) {
		return nil, fmt.Errorf("range %s: want an IPv6 subnet of at most /%d, like fd00:32::/48", r, subnetBitsV6)
	}
	for _, r := range []netip.Prefix{o.RangeV4, o.RangeV6} {
		if q, ok := overlapping(r, unusable); ok {
			return nil, fmt.Errorf("range %s: overlaps %s, which no endpoint can have addresses of", r, q)
		}
	}
	if o.Vacant == nil {
		o.Vacant = func(string, netip.Prefix, netip.Addr, time.Time) bool { return false }
	}
	return &IPAM{
		store: o.Store, log: o.Log, routes: o.Routes, vacant: o.Vacant,
		v4: subnets{key: rangePrefix + "v4", prefix: o.RangeV4, bits: o.SubnetBits},
		v6: subnets{key: rangePrefix + "v6", prefix: o.RangeV6, bits: subnetBitsV6},
	}, nil
}

// now is the time as records have it.
func (i *IPAM) now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// errNotLoaded: the state has not been read yet.
var errNotLoaded = errors.New("ipam: the state is not loaded yet")

// RequestPool gives Docker the subnet that it names, or one that is free. The kinds of errors are ErrInvalid,
// ErrPoolOverlap and ErrPoolExhausted.
func (i *IPAM) RequestPool(ctx context.Context, r *docker.RequestPoolRequest) (*docker.RequestPoolResponse, error) {
	p, err := i.requestPool(ctx, r)
	if err != nil {
		what := r.Pool
		if what == "" {
			what = "of any subnet"
		}
		return nil, fmt.Errorf("request pool %s in %s: %w", what, r.AddressSpace, err)
	}
	return &docker.RequestPoolResponse{PoolID: p.id(), Pool: p.subnet.String(), Data: map[string]string{}}, nil
}

func (i *IPAM) requestPool(ctx context.Context, r *docker.RequestPoolRequest) (*pool, error) {
	want, err := parsePoolRequest(r)
	if err != nil {
		return nil, err
	}
	// The routes are read before the lock is taken: that may take its time.
	routes, err := i.hostRoutes(ctx)
	if err != nil {
		if want.pool == nil {
			return nil, err
		}
		i.log.WithError(err).Warn("the subnet asked for is not compared with the host's routes")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pools == nil {
		return nil, errNotLoaded
	}
	if want.pool != nil {
		if route, ok := overlapping(want.pool.subnet, routes); ok {
			i.log.WithFields(logrus.Fields{"subnet": want.pool.subnet, "route": route}).
				Warn("the subnet asked for overlaps a route of the host")
		}
		return i.givenPool(ctx, want.pool)
	}
	s := &i.v4
	if want.v6 {
		s = &i.v6
	}
	bits := want.bits
	if bits == 0 {
		bits = s.bits
	}
	return i.choosePool(ctx, r.AddressSpace, s, bits, routes)
}

// poolRequest is what Docker asks for: a pool, or any pool of a family and length.
type poolRequest struct {
	pool *pool
	v6   bool
	bits int // zero: as is the default
}

// parsePoolRequest checks the request.
func parsePoolRequest(r *docker.RequestPoolRequest) (poolRequest, error) {
	for k, v := range r.Options {
		if !strings.HasPrefix(k, "com.docker.network.") {
			return poolRequest{}, fmt.Errorf("%w: option %s: %q: weave's IPAM has no options", ErrInvalid, k, v)
		}
	}
	want := poolRequest{v6: r.V6}
	if r.Pool != "" {
		subnet, err := parseSubnet(r.Pool)
		if err != nil {
			return want, err
		}
		// An IPv4 subnet asked for as IPv6 is nonsense; the other way round, Swarm never says V6.
		if r.V6 && subnet.Addr().Is4() {
			return want, fmt.Errorf("%w: subnet %s: want an IPv6 subnet", ErrInvalid, subnet)
		}
		if !subnet.Addr().IsUnspecified() {
			want.pool, err = newPool(r.AddressSpace, r.Pool, r.SubPool)
			return want, err
		}
		// Since 29 an Engine may ask for 0.0.0.0/24: any subnet of that length.
		want.v6, want.bits = subnet.Addr().Is6(), subnet.Bits()
		if want.bits == 0 {
			return want, fmt.Errorf("%w: subnet %s: it is all addresses", ErrInvalid, subnet)
		}
	}
	if r.SubPool != "" {
		return want, fmt.Errorf("%w: range %s: name its subnet too", ErrInvalid, r.SubPool)
	}
	if r.AddressSpace != LocalSpace && r.AddressSpace != GlobalSpace {
		return want, fmt.Errorf("%w: address space %q: want %s or %s", ErrInvalid, r.AddressSpace, LocalSpace, GlobalSpace)
	}
	return want, nil
}

// ReleasePool takes a pool back, with all its addresses. One that isn't there is no error: Docker may have been told
// before.
func (i *IPAM) ReleasePool(ctx context.Context, r *docker.ReleasePoolRequest) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pools == nil {
		return errNotLoaded
	}
	p, ok := i.pools[r.PoolID]
	if !ok {
		i.log.WithField("pool", r.PoolID).Debug("release of a pool that isn't there")
		return nil
	}
	if err := i.removePool(ctx, p); err != nil {
		return fmt.Errorf("release pool %s: %w", r.PoolID, err)
	}
	return nil
}

// RequestAddress gives Docker the address that it names, or the next one. The kinds of errors are ErrInvalid,
// ErrPoolUnknown, ErrForeignAddress, ErrAddressInUse and ErrPoolExhausted. A gateway is an address like any other, and
// the options, which are Docker's, say nothing else.
func (i *IPAM) RequestAddress(ctx context.Context, r *docker.RequestAddressRequest) (*docker.RequestAddressResponse, error) {
	got, err := i.requestAddress(ctx, r)
	if err != nil {
		what := r.Address
		if what == "" {
			what = "any"
		}
		return nil, fmt.Errorf("request address %s of pool %s: %w", what, r.PoolID, err)
	}
	return &docker.RequestAddressResponse{Address: got.String(), Data: map[string]string{}}, nil
}

func (i *IPAM) requestAddress(ctx context.Context, r *docker.RequestAddressRequest) (netip.Prefix, error) {
	var addr netip.Addr
	if r.Address != "" {
		var err error
		if addr, err = parseAddress(r.Address); err != nil {
			return netip.Prefix{}, err
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pools == nil {
		return netip.Prefix{}, errNotLoaded
	}
	p, ok := i.pools[r.PoolID]
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%w: remove the network and create it again", ErrPoolUnknown)
	}
	addr, err := i.holdAddress(ctx, p, addr)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(addr, p.subnet.Bits()), nil
}

// ReleaseAddress takes an address back. One that is not held is no error: Docker releases gateways that it never asked
// for, and what it has released before.
func (i *IPAM) ReleaseAddress(ctx context.Context, r *docker.ReleaseAddressRequest) error {
	addr, err := parseAddress(r.Address)
	if err != nil {
		return fmt.Errorf("release address %s of pool %s: %w", r.Address, r.PoolID, err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pools == nil {
		return errNotLoaded
	}
	p, ok := i.pools[r.PoolID]
	if !ok || p.alloc.held[addr].IsZero() {
		i.log.WithFields(logrus.Fields{"pool": r.PoolID, "address": addr}).Debug("release of an address that isn't held")
		return nil
	}
	if err := i.releaseAddress(ctx, p, addr); err != nil {
		return fmt.Errorf("release address %s of pool %s: %w", addr, r.PoolID, err)
	}
	return nil
}
