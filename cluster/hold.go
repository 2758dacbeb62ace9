// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// keeping is what does not work while etcd can't be told what this host holds.
const keeping = "keep what this host holds"

// keepHolding keeps the holding lease, and etcd as what this host holds says.
func (c *Cluster) keepHolding(ctx context.Context) {
	c.retry(ctx, "hold what this host has of the cluster", func(ctx context.Context, report func(error)) error {
		defer c.holding.ready.close()
		for ctx.Err() == nil {
			select { // a machine with a copy of this host's state must not take what it holds for its own
			case <-c.registered.opened():
			case <-ctx.Done():
				return nil
			}
			lease, err := c.checkHoldings(ctx)
			if err != nil {
				return err
			}
			report(nil)
			if err := c.holdUntilDoubt(ctx, lease); err != nil {
				return err
			}
			c.holding.ready.close()
		}
		return nil
	})
}

// checkHoldings settles whether this host still has what it holds, and returns the lease under which it has it. Nobody
// tells a host what it has lost while it was away, so all is compared and written again.
func (c *Cluster) checkHoldings(ctx context.Context) (clientv3.LeaseID, error) {
	doubts := c.holding.beginCheck()
	begun := sinceBoot()
	old := c.holding.lastLease()
	lease, err := c.takeHolding(ctx, old)
	if err != nil {
		return 0, err
	}
	if err := c.writeHoldings(ctx, lease); err != nil {
		return 0, err
	}
	if lease != old {
		c.revoke(ctx, old)
	}
	if err := c.prolonged(ctx, lease, begun); err != nil {
		return 0, err
	}
	c.holding.endCheck(doubts)
	return lease, nil
}

// holdUntilDoubt keeps the lease until it comes in question whether this host still has what it holds. What etcd does
// not answer is tried again soon, so that the problem is told no longer than it lasts.
func (c *Cluster) holdUntilDoubt(ctx context.Context, lease clientv3.LeaseID) (err error) {
	often := min(c.grace/3, time.Minute)
	ticker := time.NewTicker(often)
	defer ticker.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.holding.doubted:
			return nil
		case <-c.holding.work:
			err = c.finish(ctx)
			if c.holding.hasRunOut() { // by this host's clock
				err = errors.Join(c.prolongHolding(ctx, lease), err)
			}
		case <-ticker.C:
			err = errors.Join(c.prolongHolding(ctx, lease), c.finish(ctx))
		}
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			c.holding.doubt()
			return err
		}
		if errors.Is(err, ErrUnreachable) || c.holding.hasRunOut() {
			ticker.Reset(c.pause(failures))
			failures++
		} else {
			ticker.Reset(often)
			failures = 0
		}
		c.setProblem(keeping, err)
	}
}

// takeHolding prolongs the holding lease that this host had last, and returns it. One that has run out, since this host
// was away for longer than the grace period, or whose period is another one, is replaced; and so is one of another
// cluster in the same etcd, where this host would never be gone otherwise.
func (c *Cluster) takeHolding(ctx context.Context, old clientv3.LeaseID) (clientv3.LeaseID, error) {
	period, err := time.Duration(0), error(nil)
	if other := c.holding.otherPrefix(); other == "" {
		period, err = c.keepAlive(ctx, old)
	} else {
		c.log.Warnf("this host was in the cluster with the prefix %s last: it leaves that one, and its networks are "+
			"of the cluster with the prefix %s now", other, c.keys.prefix)
	}
	switch {
	case err == nil && period == c.grace:
		return old, nil
	case err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound):
		return 0, err
	}
	lease, err := c.grant(ctx, c.grace)
	if err != nil {
		return 0, err
	}
	return lease, c.holding.saveLease(ctx, lease)
}

func (c *Cluster) prolongHolding(ctx context.Context, lease clientv3.LeaseID) error {
	begun := sinceBoot()
	if _, err := c.keepAlive(ctx, lease); err != nil {
		return err
	}
	return c.prolonged(ctx, lease, begun)
}

// prolonged notes that etcd keeps the holding lease for a grace period from when it was asked.
func (c *Cluster) prolonged(ctx context.Context, lease clientv3.LeaseID, asked time.Duration) error {
	return c.holding.setRuns(ctx, lease, asked+c.grace-sinceBoot(), c.grace/10)
}

// followHold has this host's networks looked at again when what it holds may be others' now, and when it is its own
// again: in between they end at this host, see Remotes.
func (c *Cluster) followHold(ctx context.Context) {
	const what = "networks between hosts"
	wasOthers := false
	for ctx.Err() == nil {
		left, until, prolonged := c.holding.runsOut()
		hasRunOut, isOthers := c.holding.hasRunOut(), c.holding.isOthers()
		if isOthers != wasOthers {
			c.changeAll()
			c.holding.hurry() // the lease may be running all the same
			wasOthers = isOthers
		}
		var over <-chan time.Time
		var problem error
		switch {
		case hasRunOut:
			problem = fmt.Errorf("%w: since %s other hosts may have what this one held, so its networks end here",
				ErrUnreachable, until.Format(time.DateTime))
		case !until.IsZero():
			over = time.After(min(left, time.Minute)) // the timer stands still while the machine is suspended
		}
		c.setProblem(what, problem)
		select {
		case <-ctx.Done():
		case <-prolonged:
		case <-over:
		}
	}
}

// keepAlive prolongs a lease, and returns for how long. It is rpctypes.ErrLeaseNotFound if it has run out.
func (c *Cluster) keepAlive(ctx context.Context, lease clientv3.LeaseID) (time.Duration, error) {
	if lease == clientv3.NoLease {
		return 0, rpctypes.ErrLeaseNotFound
	}
	client, err := c.etcd(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := call(ctx)
	defer cancel()
	answer, err := client.KeepAliveOnce(ctx, lease)
	if err != nil {
		return 0, callError("prolong the lease", err)
	}
	c.noteContact()
	return time.Duration(answer.TTL) * time.Second, nil
}

// writeHoldings makes etcd have what this host holds: itself, its networks and its blocks. What it can't have any more
// is a problem, but none for the rest.
func (c *Cluster) writeHoldings(ctx context.Context, lease clientv3.LeaseID) error {
	if err := c.writeHolder(ctx, lease); err != nil {
		return err
	}
	err := c.finish(ctx)
	if errors.Is(err, ErrUnreachable) {
		return err
	}
	c.setProblem(keeping, err)
	networks, _ := c.holding.names()
	for _, name := range networks {
		err := c.writeHolding(ctx, name, lease)
		if errors.Is(err, ErrUnreachable) {
			return err
		}
		c.setProblem("network "+name, err)
	}
	return nil
}

// writeHolder writes that this host may come back.
func (c *Cluster) writeHolder(ctx context.Context, lease clientv3.LeaseID) error {
	return c.commitAll(ctx, "write this host", []clientv3.Op{
		clientv3.OpPut(c.keys.holder(c.id), encode(c.self), clientv3.WithLease(lease)),
	})
}

func (c *Cluster) writeHolding(ctx context.Context, name string, lease clientv3.LeaseID) error {
	unlock, err := c.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	nw, ok := c.holding.network(name)
	if !ok { // it was left meanwhile
		return nil
	}
	err = c.rejoin(ctx, nw, lease)
	isOther := errors.Is(err, ErrConflict)
	c.setOther(name, isOther)
	switch {
	case isOther: // the addresses are those of the other network
		return errors.Join(err, c.GiveBack(ctx, name, c.holding.blocksOf(name)))
	case err != nil:
		return err
	}
	err = c.reclaim(ctx, nw, lease)
	if errors.Is(err, ErrUnreachable) {
		return err
	}
	return errors.Join(err, c.tellMACs(ctx, lease, name, true))
}

// setOther notes whether the cluster has another network of this name by now.
func (c *Cluster) setOther(name string, isOther bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.networks[name]; m != nil && m.isOther != isOther {
		m.isOther = isOther
		c.changes.note(name)
		c.hurryPresence()
	}
}

// errOther says that this host is on a network that the cluster does not have any more.
func errOther(how string) error {
	return fmt.Errorf("%w: %s while this host was away: remove it here and create it again", ErrConflict, how)
}

// rejoin writes this host's membership of a network that it is on. It is ErrConflict if the network is another one by
// now: this host was away for so long that it was removed and made again.
func (c *Cluster) rejoin(ctx context.Context, nw Network, lease clientv3.LeaseID) error {
	key, vni := c.keys.network(nw.Name), c.keys.vni(nw.VNI)
	join := clientv3.OpPut(c.keys.member(nw.Name, c.id), "", clientv3.WithLease(lease))
	for range maxTries {
		there, revision, err := c.readNetwork(ctx, nw.Name)
		if err != nil {
			return err
		}
		compare := []clientv3.Cmp{missing(key), missing(vni)}
		operations := []clientv3.Op{clientv3.OpPut(key, encode(nw)), clientv3.OpPut(vni, nw.Name), join}
		if revision != 0 {
			if there.VNI != nw.VNI {
				return errOther(fmt.Sprintf("it was removed and made again with %v", there.Subnets))
			}
			compare, operations = []clientv3.Cmp{unchanged(key, revision)}, []clientv3.Op{join}
		}
		if ok, err := c.commit(ctx, "join again", compare, operations); ok || err != nil {
			return err
		}
	}
	return errOther(fmt.Sprintf("it was removed, and its VNI %d is that of another one now,", nw.VNI))
}

// finish tells etcd what it could not be told at once: of the networks that this host has left, and of the blocks that
// it has given back.
func (c *Cluster) finish(ctx context.Context) error {
	networks, leaving := c.holding.names()
	var errs []error
	for _, name := range networks {
		errs = append(errs, c.finishHolding(ctx, name))
	}
	for _, name := range leaving {
		errs = append(errs, c.finishLater(ctx, name))
	}
	return errors.Join(errs...)
}

func (c *Cluster) finishHolding(ctx context.Context, name string) error {
	unlock, err := c.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	return errors.Join(c.tellDropped(ctx, name), c.tellSplit(ctx, name), c.finishMACs(ctx, name))
}

func (c *Cluster) finishLater(ctx context.Context, name string) error {
	unlock, err := c.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if !c.holding.isLeaving(name) { // it has left by now, or has joined again
		return nil
	}
	return c.finishLeaving(ctx, name)
}
