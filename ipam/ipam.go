// SPDX-License-Identifier: Apache-2.0

// Package ipam manages IP addresses: an address space has pools, each a subnet, and a pool hands out its addresses.
//
// It keeps accounts in the store and makes no system call that depends on a network namespace. Whoever makes an IPAM
// tells it what the host's routes are.
package ipam

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/store"
)

// Options are what an IPAM needs.
type Options struct {
	Store store.Store   // required
	Log   *logrus.Entry // required

	// Routes returns the destinations of the host's routes, with which no subnet that weave chooses overlaps. Required.
	Routes func(ctx context.Context) ([]netip.Prefix, error)

	// InUse returns the addresses of endpoints in a space, with the lengths of their subnets. No subnet that weave
	// chooses overlaps with them: an older copy of the state does not have all pools. Optional.
	InUse func(ctx context.Context, space string) []netip.Prefix
	// Avoid returns subnets that somebody else on the host hands out, and of which weave chooses none either: Docker's
	// default address pools. Optional. Who names a subnet gets it nevertheless.
	Avoid func() []netip.Prefix

	// Reclaimable reports whether no endpoint uses an address of the pool space/subnet any more, although it is held
	// since the time given. A request for that very address then succeeds. Docker, when it is killed, forgets
	// endpoints without releasing their addresses, and a container that comes back requests its address by name.
	// Optional; without it no address that is held is handed out again.
	Reclaimable func(space string, subnet netip.Prefix, addr netip.Addr, since time.Time) bool

	// Cluster is what hosts share; nil: there is no cluster, and every pool is this host's alone.
	Cluster *cluster.Cluster
	// InUseHere reports whether this host has made a network of the cluster. Then it is no business of IPAM's to leave
	// it. Optional.
	InUseHere func(network string) bool

	RangeV4    netip.Prefix // where IPv4 subnets are chosen from; zero: DefaultRangeV4
	SubnetBits int          // length of an IPv4 subnet; zero: DefaultSubnetBits
	RangeV6    netip.Prefix // where IPv6 subnets are chosen from; zero: a random /48 of unique local addresses
}

// IPAM hands out pools and addresses. Its methods may be called from several goroutines at once.
type IPAM struct {
	store       store.Store
	log         *logrus.Entry
	routes      func(ctx context.Context) ([]netip.Prefix, error)
	inUse       func(ctx context.Context, space string) []netip.Prefix
	avoid       func() []netip.Prefix
	reclaimable func(space string, subnet netip.Prefix, addr netip.Addr, since time.Time) bool
	cluster     *cluster.Cluster // nil: there is none
	inUseHere   func(network string) bool
	scarce      chan PoolID // pools of the cluster that soon have no address left in the blocks of this host

	// writer is held by the one call that changes the state, also while it waits for the disk or for reclaimable, and
	// after the call was given up: see change. Waiting for it ends with the call's context.
	writer *semaphore.Weighted
	v4, v6 subnetRange // the holder of writer alone uses them

	// mu guards the pools in memory. It is never held while something waits, so that listings answer at once. Nobody
	// but the holder of writer changes them: it reads them without mu, and changes them with it, in update.
	mu    sync.Mutex
	pools map[PoolID]*pool // nil: not loaded yet
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
	if !ValidRangeV4(o.RangeV4) {
		return nil, fmt.Errorf("range %s: want an IPv4 prefix such as %s, of addresses that an endpoint can have",
			o.RangeV4, DefaultRangeV4())
	}
	if least := max(MinSubnetBits, o.RangeV4.Bits()); o.SubnetBits < least || o.SubnetBits > MaxSubnetBits {
		return nil, fmt.Errorf("subnet length %d: want %d to %d for the range %s",
			o.SubnetBits, least, MaxSubnetBits, o.RangeV4)
	}
	if o.RangeV6.IsValid() && !ValidRangeV6(o.RangeV6) {
		return nil, fmt.Errorf("range %s: want an IPv6 prefix of at most %d bits, such as fd00:32::/48, "+
			"of addresses that an endpoint can have", o.RangeV6, SubnetBitsV6)
	}
	if o.Avoid == nil {
		o.Avoid = func() []netip.Prefix { return nil }
	}
	if o.Reclaimable == nil {
		o.Reclaimable = func(string, netip.Prefix, netip.Addr, time.Time) bool { return false }
	}
	if o.InUseHere == nil {
		o.InUseHere = func(string) bool { return false }
	}
	if o.InUse == nil {
		o.InUse = func(context.Context, string) []netip.Prefix { return nil }
	}
	return &IPAM{
		store: o.Store, log: o.Log, routes: o.Routes, inUse: o.InUse, avoid: o.Avoid, reclaimable: o.Reclaimable,
		cluster: o.Cluster, inUseHere: o.InUseHere, scarce: make(chan PoolID, 1), writer: semaphore.NewWeighted(1),
		v4: subnetRange{key: rangePrefix + "v4", prefix: o.RangeV4, bits: o.SubnetBits},
		v6: subnetRange{key: rangePrefix + "v6", prefix: o.RangeV6, bits: SubnetBitsV6},
	}, nil
}

// now returns the time as records have it.
func (i *IPAM) now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// RequestPool makes the pool that r names, or one of a free subnet. The kinds of errors are ErrInvalid, ErrPoolOverlap
// and ErrPoolExhausted. In the global space a pool that is there already is returned again: a new leader of a swarm
// repeats the requests of the leader before.
func (i *IPAM) RequestPool(ctx context.Context, r PoolRequest) (Pool, error) {
	request := i.requestPool
	if r.Network != "" {
		request = i.requestShared
	}
	p, err := request(ctx, r)
	if err != nil {
		return Pool{}, fmt.Errorf("request pool %s in %s: %w", r.subject(), r.Space, err)
	}
	return p, nil
}

func (i *IPAM) requestPool(ctx context.Context, r PoolRequest) (Pool, error) {
	p, err := r.named()
	if err != nil {
		return Pool{}, err
	}
	routes, err := i.hostRoutes(ctx)
	if err != nil {
		if p == nil {
			return Pool{}, err
		}
		i.log.WithError(err).Warn("the subnet asked for is not compared with the host's routes")
	}
	var inUse []netip.Prefix
	if p == nil {
		inUse = i.inUse(ctx, r.Space)
		shared, err := i.sharedSubnets(ctx, r)
		if err != nil {
			return Pool{}, err
		}
		inUse = append(inUse, shared...)
	}
	return change(ctx, i, func() (Pool, undo, error) {
		if p != nil && p.space == GlobalSpace && i.pools[p.id()] != nil {
			return i.pools[p.id()].listed(), nil, nil
		}
		p, err := p, error(nil)
		if p == nil {
			p, err = i.addAnyPool(ctx, r, routes, inUse)
		} else {
			err = i.addNamedPool(ctx, p, routes)
		}
		if err != nil {
			return Pool{}, nil, err
		}
		return p.listed(), func(ctx context.Context) error { return i.removePool(ctx, p) }, nil
	})
}

// ReleasePool removes a pool with all its addresses. It is no error if there is no such pool: Docker repeats a release
// whose answer it did not get.
func (i *IPAM) ReleasePool(ctx context.Context, id PoolID) error {
	network := i.sharedNetwork(id)
	err := i.changeOnly(ctx, func() error {
		p, ok := i.pools[id]
		if !ok {
			i.log.WithField("pool", id).Debug("release of a pool that isn't there")
			return nil
		}
		return i.removePool(ctx, p)
	})
	if err == nil && network != "" {
		err = i.leave(ctx, network)
	}
	if err != nil {
		return fmt.Errorf("release pool %s: %w", id, err)
	}
	return nil
}

// RequestAddress hands out addr, or a free address of the pool if addr is zero, and returns it with the length of the
// pool's subnet. An address that is named may lie outside of the pool's Range. The kinds of errors are ErrInvalid,
// ErrPoolUnknown, ErrForeignAddress, ErrAddressInUse and ErrPoolExhausted. In the global space an address that is held
// already is handed out again, as RequestPool does with pools.
func (i *IPAM) RequestAddress(ctx context.Context, id PoolID, addr netip.Addr) (netip.Prefix, error) {
	return i.RequestAddressFor(ctx, id, addr, "")
}

// RequestAddressFor is RequestAddress for an owner: whoever names the same owner later is the same container. If addr
// is zero the owner gets the address again that it has had, unless somebody else has it by now, and somebody new gets
// one that nobody has had for long. An owner who is not known (empty) may be somebody new or one who comes back, and
// gets an address that was released lately, as allocator.pickFreed says, as Docker's own IPAM would.
func (i *IPAM) RequestAddressFor(ctx context.Context, id PoolID, addr netip.Addr, owner string) (netip.Prefix, error) {
	request := i.requestAddress
	if i.sharedNetwork(id) != "" {
		request = i.requestSharedAddress
	}
	got, err := request(ctx, addressRequest{pool: id, addr: addr, owner: owner})
	if err != nil {
		subject := "any"
		if addr.IsValid() {
			subject = addr.String()
		}
		return netip.Prefix{}, fmt.Errorf("request address %s of pool %s: %w", subject, id, err)
	}
	return got, nil
}

// addressRequest is a request for an address.
type addressRequest struct {
	pool    PoolID
	addr    netip.Addr // zero: any
	owner   string     // empty: not known
	gateway bool       // addr is that of the gateway, for which each host of a cluster answers
}

func (i *IPAM) requestAddress(ctx context.Context, r addressRequest) (netip.Prefix, error) {
	if r.addr.IsValid() {
		if err := checkAddress(r.addr); err != nil {
			return netip.Prefix{}, err
		}
	}
	if len(r.owner) > maxOwner {
		r.owner = ""
	}
	return change(ctx, i, func() (netip.Prefix, undo, error) {
		p, ok := i.pools[r.pool]
		if !ok {
			return netip.Prefix{}, nil, fmt.Errorf("%w: remove the network and create it again", ErrPoolUnknown)
		}
		if p.network != "" && i.cluster == nil {
			return netip.Prefix{}, nil, fmt.Errorf("%w: it is of network %s of a cluster, and this host is in none: "+
				"start weave with --cluster", ErrInvalid, p.network)
		}
		if p.space == GlobalSpace && p.isHeld(r.addr) {
			return netip.PrefixFrom(r.addr, p.subnet.Bits()), nil, nil
		}
		got, err := i.holdAddress(ctx, p, r)
		if err != nil {
			return netip.Prefix{}, nil, err
		}
		back := func(ctx context.Context) error { return i.freeAddress(ctx, p, got) }
		return netip.PrefixFrom(got, p.subnet.Bits()), back, nil
	})
}

// ReleaseAddress takes an address back. It is no error if the address is not held: Docker releases gateways that it
// never requested, and repeats a release whose answer it did not get. An address that is malformed is ErrInvalid.
func (i *IPAM) ReleaseAddress(ctx context.Context, id PoolID, addr netip.Addr) error {
	if err := i.releaseAddress(ctx, id, addr); err != nil {
		return fmt.Errorf("release address %s of pool %s: %w", addr, id, err)
	}
	return nil
}

func (i *IPAM) releaseAddress(ctx context.Context, id PoolID, addr netip.Addr) error {
	if err := checkAddress(addr); err != nil {
		return err
	}
	return i.changeOnly(ctx, func() error {
		p, ok := i.pools[id]
		if !ok || !p.isHeld(addr) {
			i.log.WithFields(logrus.Fields{"pool": id, "address": addr}).Debug("release of an address that isn't held")
			return nil
		}
		return i.freeAddress(ctx, p, addr)
	})
}
