// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// firstVNI is the lowest VNI that is given to a network: below, people and programs choose their own.
	firstVNI = 1 << 16
	lastVNI  = ProbeVNI - 1
	// ProbeVNI is the largest VNI that there is. No network gets it: probes between hosts have it.
	ProbeVNI = 1<<24 - 1
	// maxTries is how often something is tried that another host has done at the same moment.
	maxTries = 20
	// joinPause bounds the pause after the first try to join a network, and by how much longer each further one may be.
	joinPause = 10 * time.Millisecond
)

// Join makes this host a member of a network, which is made if no host has it yet; want has its name, and its MTU and
// its subnets as far as they are known. A subnet that the network does not have yet, of another family than those that
// it has, is added to it. It returns the network as all hosts have it. It is ErrConflict if the network has another
// subnet or gateway, and ErrUnreachable if etcd does not answer.
func (c *Cluster) Join(ctx context.Context, want Network) (Network, error) {
	return c.join(ctx, joining{Network: want})
}

// JoinChosen is Join with subnets of weave's own choice, which nobody has named. It is ErrConflict also if another
// network of the cluster has an address of theirs: it was made since they were chosen.
func (c *Cluster) JoinChosen(ctx context.Context, want Network) (Network, error) {
	return c.join(ctx, joining{Network: want, chosen: true})
}

// joining is a network that this host is to be on.
type joining struct {
	Network
	chosen bool // no other network may have an address of its subnets
}

func (c *Cluster) join(ctx context.Context, want joining) (Network, error) {
	if err := CheckName(want.Name); err != nil {
		return Network{}, err
	}
	if _, err := c.holding.await(ctx); err != nil { // before the lock, which checkHoldings takes, too
		return Network{}, fmt.Errorf("network %s of the cluster: %w", want.Name, err)
	}
	unlock, err := c.lock(ctx, want.Name)
	if err != nil {
		return Network{}, err
	}
	defer unlock()
	if _, isOther := c.membership(want.Name); isOther {
		return Network{}, fmt.Errorf("network %s of the cluster: %w", want.Name,
			errOther("it was removed and made again"))
	}
	nw, err := c.joinAsMember(ctx, want)
	if err != nil {
		return Network{}, fmt.Errorf("network %s of the cluster: %w", want.Name, err)
	}
	return nw, c.addMembership(ctx, nw)
}

// joinAsMember makes etcd have this host as a member. A record says so before: whatever keeps this host from knowing
// that it is one, a lost answer or its end, etcd is told later that it has left. The caller holds the network's lock.
func (c *Cluster) joinAsMember(ctx context.Context, want joining) (Network, error) {
	_, wasMember := c.Network(want.Name)
	if !wasMember {
		if err := c.holding.putLeaving(ctx, want.Name); err != nil {
			return Network{}, err
		}
	}
	for try := range maxTries {
		nw, err := c.tryJoin(ctx, want)
		switch {
		case err == nil && nw == nil:
			wait.For(ctx, rand.N(joinPause*time.Duration(try+1)))
			continue
		case err == nil:
			return *nw, nil
		case !wasMember:
			c.holding.hurry()
		}
		return Network{}, err
	}
	return Network{}, errors.New("other hosts change it all the time: try again")
}

// tryJoin returns nil if another host was faster. The change is void if this host's own record is written meanwhile:
// see removeMember.
func (c *Cluster) tryJoin(ctx context.Context, want joining) (*Network, error) {
	lease, err := c.holding.await(ctx)
	if err != nil {
		return nil, err
	}
	self, err := c.get(ctx, c.keys.holder(c.id))
	if err != nil {
		return nil, err
	}
	if len(self.Kvs) == 0 { // checkHoldings is about to write it
		return nil, fmt.Errorf("%w: another host has had this one forgotten: try again", ErrUnreachable)
	}
	compare := []clientv3.Cmp{unchanged(c.keys.holder(c.id), self.Kvs[0].ModRevision)}
	join := clientv3.OpPut(c.keys.member(want.Name, c.id), "", clientv3.WithLease(lease))
	there, revision, err := c.readNetwork(ctx, want.Name)
	if err != nil {
		return nil, err
	}
	if want.chosen {
		isFree, err := c.compareFree(ctx, want.Network, there)
		if err != nil {
			return nil, err
		}
		compare = append(compare, isFree...)
	}
	if revision == 0 {
		return c.tryCreate(ctx, want.Network, compare, join)
	}
	key := c.keys.network(want.Name)
	merged, err := there.merge(want.Network)
	if err != nil {
		// Nobody may be on it any more: then it is a record that its last member has left.
		gone, goneErr := c.removeIfEmpty(ctx, there, revision)
		if goneErr == nil && gone {
			return nil, nil
		}
		return nil, err
	}
	operations := []clientv3.Op{join}
	if !slices.Equal(merged.Subnets, there.Subnets) || merged.MTU != there.MTU {
		operations = append(operations, clientv3.OpPut(key, encode(merged)))
	}
	ok, err := c.commit(ctx, "join", append(compare, unchanged(key, revision)), operations)
	if err != nil || !ok {
		return nil, err
	}
	return &merged, nil
}

// readNetwork reads a network, and the revision at which it was written last; 0: there is no such network.
func (c *Cluster) readNetwork(ctx context.Context, name string) (nw Network, revision int64, err error) {
	answer, err := c.get(ctx, c.keys.network(name))
	if err != nil || len(answer.Kvs) == 0 {
		return Network{}, 0, err
	}
	nw, err = parseNetwork(name, answer.Kvs[0].Value)
	if err != nil {
		return Network{}, 0, fmt.Errorf("record of network %s: %w", name, err)
	}
	return nw, answer.Kvs[0].ModRevision, nil
}

// tryCreate makes a network with a VNI that no other has.
func (c *Cluster) tryCreate(ctx context.Context, want Network, compare []clientv3.Cmp, join clientv3.Op) (
	*Network, error,
) {
	want.VNI = firstVNI + rand.Uint32N(lastVNI-firstVNI+1)
	want.Created = time.Now().UTC().Truncate(time.Millisecond)
	key, vni := c.keys.network(want.Name), c.keys.vni(want.VNI)
	ok, err := c.commit(ctx, "create", append(compare, missing(key), missing(vni)),
		[]clientv3.Op{clientv3.OpPut(key, encode(want)), clientv3.OpPut(vni, want.Name), join})
	if err != nil || !ok {
		return nil, err
	}
	return &want, nil
}

// merge returns the network with the subnets of want that it lacks. It is ErrConflict if it has others.
func (nw Network) merge(want Network) (Network, error) {
	nw.Subnets = slices.Clone(nw.Subnets)
	nw.MTU = cmp.Or(nw.MTU, want.MTU)
	for _, w := range want.Subnets {
		i := slices.IndexFunc(nw.Subnets, func(s Subnet) bool { return s.Subnet.Addr().Is4() == w.Subnet.Addr().Is4() })
		if i < 0 {
			nw.Subnets = append(nw.Subnets, w)
			continue
		}
		have := &nw.Subnets[i]
		if have.Subnet != w.Subnet || have.Gateway.IsValid() && w.Gateway.IsValid() && have.Gateway != w.Gateway {
			return Network{}, fmt.Errorf("%w: its subnet is %s, and here it would be %s: give the one that it has, or "+
				"leave it out and name the network to weave's IPAM (--ipam-driver weave --ipam-opt "+
				"works.weave.network=%s)", ErrConflict, have, w, nw.Name)
		}
		if !have.Gateway.IsValid() {
			have.Gateway = w.Gateway
		}
	}
	return nw, nil
}

// removeIfEmpty removes a network without members, and reports whether it has.
func (c *Cluster) removeIfEmpty(ctx context.Context, nw Network, revision int64) (bool, error) {
	key := c.keys.network(nw.Name)
	return c.commit(ctx, "remove", []clientv3.Cmp{unchanged(key, revision), missingBelow(c.keys.members(nw.Name))},
		[]clientv3.Op{clientv3.OpDelete(key), clientv3.OpDelete(c.keys.vni(nw.VNI))})
}

// removeWithoutMembers removes a network that has lost its last member.
func (c *Cluster) removeWithoutMembers(ctx context.Context, name string) error {
	nw, revision, err := c.readNetwork(ctx, name)
	if err == nil && revision != 0 {
		_, err = c.removeIfEmpty(ctx, nw, revision)
	}
	return err
}

// addMembership remembers that this host is on the network, and follows it.
func (c *Cluster) addMembership(ctx context.Context, nw Network) error {
	if err := c.holding.putNetwork(ctx, nw); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.networks[nw.Name]
	if m == nil {
		m = newMembership(nw)
		c.networks[nw.Name] = m
	}
	m.network = nw
	c.followNetwork(m)
	c.hurryPresence() // see wantedPresence
	return nil
}

// removeMembership forgets a network, and what this host knows of it.
func (c *Cluster) removeMembership(name string) {
	c.mu.Lock()
	m := c.networks[name]
	if m != nil {
		if m.stop != nil {
			m.stop()
		}
		delete(c.networks, name)
		for key := range m.remotes {
			c.view.note(c.endpointRecord(key))
		}
		c.changes.note(name)
	}
	c.mu.Unlock()
	if m != nil {
		c.reviewLost(m, false)
		c.setProblem("network "+name, nil)
	}
}

// Leave ends this host's membership, with the blocks that it holds there. What etcd has of it is removed in the
// background if etcd does not answer now.
func (c *Cluster) Leave(ctx context.Context, name string) error {
	unlock, err := c.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if _, ok := c.Network(name); !ok {
		return nil
	}
	if err := c.holding.leaveNetwork(ctx, name); err != nil {
		return err
	}
	c.removeMembership(name)
	if err := c.finishLeaving(ctx, name); err != nil {
		c.log.WithError(err).Warnf("network %s of the cluster: etcd is told later that this host has left it", name)
		c.holding.hurry()
	}
	return nil
}

// finishLeaving removes what etcd has of this host's membership, and the network after its last member. The caller
// holds the network's lock.
func (c *Cluster) finishLeaving(ctx context.Context, name string) error {
	select {
	case <-c.registered.opened():
	default: // what etcd has of this id may be another machine's
		return fmt.Errorf("%w: this host is not in the cluster now: `weave status` says why", ErrUnreachable)
	}
	// A claim whose answer was lost may still be on its way. It needs the membership, so nothing is claimed after this.
	if err := c.removeMember(ctx, name); err != nil {
		return err
	}
	giveBack := func(compare []clientv3.Cmp, changes []clientv3.Op) error {
		_, err := c.commit(ctx, "give back all", compare, changes)
		return err
	}
	if err := c.removeHeld(ctx, c.id, name, giveBack); err != nil {
		return err
	}
	if err := c.leaveMACs(ctx, name, giveBack); err != nil {
		return err
	}
	if err := c.removeWithoutMembers(ctx, name); err != nil {
		return err
	}
	return c.holding.leftNetwork(ctx, name)
}

// removeMember removes this host's membership as it is now: if the call fails and etcd makes the change later, the host
// may have joined again. If there is none, a join whose answer was lost may still be on its way: it is void when this
// host's own record was written after it had been asked for.
func (c *Cluster) removeMember(ctx context.Context, name string) error {
	key := c.keys.member(name, c.id)
	answer, err := c.get(ctx, key)
	if err != nil {
		return err
	}
	if len(answer.Kvs) == 0 {
		return c.writeHolder(ctx, c.holding.lastLease())
	}
	_, err = c.commit(ctx, "leave", []clientv3.Cmp{unchanged(key, answer.Kvs[0].ModRevision)},
		[]clientv3.Op{clientv3.OpDelete(key)})
	return err
}

// removeHeld removes what a host holds of a network, as it is now: see removalOf. Remove makes one such transaction.
func (c *Cluster) removeHeld(
	ctx context.Context, id, network string, remove func([]clientv3.Cmp, []clientv3.Op) error,
) error {
	for range maxTries {
		held, err := c.heldBy(ctx, id, network)
		if err != nil || len(held) == 0 {
			return err
		}
		for some := range slices.Chunk(held, maxOperations-1) { // remove may compare one thing more
			var compare []clientv3.Cmp
			var changes []clientv3.Op
			for _, r := range some {
				compare = append(compare, unchanged(r.key, r.revision))
				changes = append(changes, clientv3.OpDelete(r.key))
			}
			if err := remove(compare, changes); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("what host %s holds of network %s changes all the time: try again", id, network)
}

// Networks returns the names of the networks that this host is on, sorted.
func (c *Cluster) Networks() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.networks))
}

// Network returns a network that this host is on.
func (c *Cluster) Network(name string) (Network, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.networks[name]
	if m == nil {
		return Network{}, false
	}
	return m.network, true
}

// Lookup returns a network of the cluster, whether this host is on it or not; ok is false if there is none.
func (c *Cluster) Lookup(ctx context.Context, name string) (nw Network, ok bool, err error) {
	if err := CheckName(name); err != nil {
		return Network{}, false, err
	}
	if nw, ok := c.Network(name); ok {
		return nw, true, nil
	}
	nw, revision, err := c.readNetwork(ctx, name)
	return nw, revision != 0, err
}
