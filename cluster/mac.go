// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/store"
)

// A MAC that a user names is claimed as an address is, so that of two hosts that make an endpoint with it at the same
// moment one is refused. A random one of weave's own is claimed by nobody. While etcd is away a MAC is this host's as
// far as it knows: a container with one comes back at a boot without etcd as others do. It is claimed when etcd
// answers, and if another host has it then, that is a problem which the user is told.

// errNoMember says that etcd has not yet, or not any more, that this host is on the network.
var errNoMember = errors.New("etcd does not have this host as a member of the network")

// macPrefix begins the records of the MACs that this host has claimed: + NETWORK/MAC: the endpoint's id.
const macPrefix = "cluster/mac/"

// macOn is a MAC on a network.
type macOn struct {
	network string
	mac     mac.Address
}

func (m macOn) String() string { return fmt.Sprintf("MAC %s on network %s", m.mac, m.network) }
func (m macOn) record() string { return macPrefix + m.network + "/" + m.mac.String() }

// macs are the MACs that this host claims, as its store has them.
type macs struct {
	store store.Store

	mu      sync.Mutex
	held    map[macOn]string // the endpoint that has it
	told    map[macOn]bool   // etcd has it
	dropped map[macOn]string // etcd may still have it, with this endpoint
}

func loadMACs(ctx context.Context, s store.Store) (*macs, error) {
	m := &macs{store: s, held: map[macOn]string{}, told: map[macOn]bool{}, dropped: map[macOn]string{}}
	records, err := store.Load[string](ctx, s, macPrefix)
	if err != nil {
		return nil, err
	}
	for key, endpoint := range records {
		network, text, _ := strings.Cut(strings.TrimPrefix(key, macPrefix), "/")
		address, err := mac.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("record %s: %w: %w", key, store.ErrDamaged, err)
		}
		m.held[macOn{network, address}] = endpoint
	}
	return m, nil
}

func (m *macs) hold(ctx context.Context, on macOn, endpoint string) error {
	put, err := store.Put(on.record(), endpoint)
	if err != nil {
		return err
	}
	if err := m.store.Apply(ctx, put); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[on] = endpoint
	delete(m.told, on)
	delete(m.dropped, on)
	return nil
}

// drop forgets the MAC of an endpoint, and reports whether the endpoint had it; etcd is still to be told.
func (m *macs) drop(ctx context.Context, on macOn, endpoint string) (bool, error) {
	m.mu.Lock()
	isHeld := endpoint != "" && m.held[on] == endpoint
	m.mu.Unlock()
	if !isHeld {
		return false, nil
	}
	if err := m.store.Apply(ctx, store.Delete(on.record())); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.held, on)
	delete(m.told, on)
	m.dropped[on] = endpoint
	return true, nil
}

func (m *macs) setTold(on macOn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told[on] = true
}

func (m *macs) removed(on macOn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.dropped, on)
}

// of returns what is held of a network, all of it or what etcd was not told of, and what was dropped.
func (m *macs) of(network string, all bool) (held, dropped map[macOn]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	held, dropped = maps.Clone(m.held), maps.Clone(m.dropped)
	maps.DeleteFunc(held, func(on macOn, _ string) bool { return on.network != network || m.told[on] && !all })
	maps.DeleteFunc(dropped, func(on macOn, _ string) bool { return on.network != network })
	return held, dropped
}

// ClaimMAC claims a MAC that a user has named for an endpoint of this host, until ReleaseMAC. It is ErrConflict if
// another host has claimed it. While etcd is away it is claimed later.
func (c *Cluster) ClaimMAC(ctx context.Context, network string, address mac.Address, endpoint string) error {
	unlock, err := c.lock(ctx, network)
	if err != nil {
		return err
	}
	defer unlock()
	if isMember, _ := c.membership(network); !isMember {
		return fmt.Errorf("%w: this host is not on network %s of the cluster", ErrConflict, network)
	}
	on := macOn{network, address}
	if err := c.macs.hold(ctx, on, endpoint); err != nil {
		return err
	}
	err = c.Unreachable()
	var lease clientv3.LeaseID
	if err == nil {
		lease, err = c.holding.await(ctx)
	}
	if err == nil {
		err = c.claimMAC(ctx, lease, on, endpoint)
	}
	switch {
	case errors.Is(err, ErrUnreachable) || errors.Is(err, errNoMember):
		c.log.WithError(err).Warnf("%s is claimed later", on)
		c.holding.hurry()
		return nil
	case err != nil:
		_, dropErr := c.macs.drop(context.WithoutCancel(ctx), on, endpoint)
		return errors.Join(err, dropErr)
	}
	return nil
}

// ReleaseMAC lets other hosts have a MAC that was claimed for an endpoint, as soon as etcd has been told, in the
// background. It is no error if it was not.
func (c *Cluster) ReleaseMAC(ctx context.Context, network string, address mac.Address, endpoint string) error {
	on := macOn{network, address}
	dropped, err := c.macs.drop(ctx, on, endpoint)
	if dropped {
		c.setProblem(on.String(), nil)
		c.holding.hurry()
	}
	return err
}

// MACs returns the MACs of a network that this host has claimed, with the endpoints for which it has.
func (c *Cluster) MACs(network string) map[mac.Address]string {
	held, _ := c.macs.of(network, true)
	out := make(map[mac.Address]string, len(held))
	for on, endpoint := range held {
		out[on.mac] = endpoint
	}
	return out
}

// claimMAC makes etcd have a MAC as this host's. It is ErrConflict if it is another one's. The caller holds the
// network's lock.
func (c *Cluster) claimMAC(ctx context.Context, lease clientv3.LeaseID, on macOn, endpoint string) error {
	key := c.keys.mac(on.network, on.mac)
	put := clientv3.OpPut(key, c.id+"/"+endpoint, clientv3.WithLease(lease))
	compare := missing(key)
	for range maxTries {
		member := exists(c.keys.member(on.network, c.id)) // see finishLeaving
		ok, err := c.commit(ctx, "claim "+on.String(), []clientv3.Cmp{member, compare}, []clientv3.Op{put})
		if err != nil {
			return err
		}
		if ok {
			c.macs.setTold(on)
			return nil
		}
		answer, err := c.get(ctx, key)
		if err != nil {
			return err
		}
		if compare = missing(key); len(answer.Kvs) == 0 { // it was released, or this host is not on the network
			member, err := c.get(ctx, c.keys.member(on.network, c.id))
			if err != nil || len(member.Kvs) == 0 {
				return cmp.Or(err, errNoMember)
			}
			continue
		}
		host, other, _ := strings.Cut(string(answer.Kvs[0].Value), "/")
		if host != c.id {
			return c.errMAC(on, host, other)
		}
		compare = unchanged(key, answer.Kvs[0].ModRevision)
	}
	return fmt.Errorf("%w: other hosts claim %s and release it all the time: try again", ErrConflict, on)
}

func (c *Cluster) errMAC(on macOn, host, endpoint string) error {
	owner := Endpoint{ID: endpoint}
	remotes, _ := c.Remotes(on.network)
	if i := slices.IndexFunc(remotes, func(r Remote) bool { return r.Host == host && r.ID == endpoint }); i >= 0 {
		owner = remotes[i].Endpoint
	}
	return fmt.Errorf("%w: MAC %s is that of %s on host %s: give one of them another MAC",
		ErrConflict, on.mac, owner.Owner(), c.HostName(host))
}

// Owner returns what a user knows an endpoint by: its container's name, or its id as long as that is not known.
func (ep Endpoint) Owner() string {
	switch {
	case ep.ContainerName != "":
		return "container " + ep.ContainerName
	case ep.ContainerID != "":
		return "container " + ep.ContainerID
	}
	return "endpoint " + ep.ID
}

// tellMACs makes etcd have the MACs that this host claims on a network, all of them or those that it was not told of,
// and not those that it has released. One that is another host's is a problem, and none for the rest. The caller holds
// the network's lock.
func (c *Cluster) tellMACs(ctx context.Context, lease clientv3.LeaseID, network string, all bool) error {
	held, dropped := c.macs.of(network, all)
	for on, endpoint := range dropped {
		err := c.remove(ctx, "release "+on.String(), c.keys.mac(on.network, on.mac), c.id+"/"+endpoint)
		if err != nil {
			return err
		}
		c.macs.removed(on)
	}
	for on, endpoint := range held {
		err := c.claimMAC(ctx, lease, on, endpoint)
		if errors.Is(err, ErrUnreachable) || errors.Is(err, errNoMember) {
			return err
		}
		c.setProblem(on.String(), err)
	}
	return nil
}

// finishMACs is tellMACs for what etcd could not be told at once. The caller holds the network's lock.
func (c *Cluster) finishMACs(ctx context.Context, network string) error {
	err := c.tellMACs(ctx, c.holding.lastLease(), network, false)
	if errors.Is(err, errNoMember) { // writeHolding does it
		return nil
	}
	return err
}

// removeMACs removes what etcd has of a host's MACs on a network, each as it is now. Remove makes one such transaction.
func (c *Cluster) removeMACs(
	ctx context.Context, id, network string, remove func([]clientv3.Cmp, []clientv3.Op) error,
) error {
	answer, err := c.get(ctx, c.keys.macs(network), clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range answer.Kvs {
		if host, _, _ := strings.Cut(string(kv.Value), "/"); host != id {
			continue
		}
		err := remove([]clientv3.Cmp{unchanged(string(kv.Key), kv.ModRevision)},
			[]clientv3.Op{clientv3.OpDelete(string(kv.Key))})
		if err != nil {
			return err
		}
	}
	return nil
}

// leaveMACs forgets the MACs of a network that this host leaves, and removes them from etcd, as removeMACs does. The
// caller holds the network's lock.
func (c *Cluster) leaveMACs(
	ctx context.Context, network string, remove func([]clientv3.Cmp, []clientv3.Op) error,
) error {
	held, _ := c.macs.of(network, true)
	for on, endpoint := range held {
		if err := c.ReleaseMAC(ctx, network, on.mac, endpoint); err != nil {
			return err
		}
	}
	if err := c.removeMACs(ctx, c.id, network, remove); err != nil {
		return err
	}
	_, dropped := c.macs.of(network, true)
	for on := range dropped {
		c.macs.removed(on)
	}
	return nil
}
