// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/store"
)

// presenceKey is the record of the presence lease that this host had last.
const presenceKey = "cluster/presence"

// SetEndpoints says which endpoints this host has on networks of the cluster. They are written to etcd in the
// background, and nothing is written before the first call: after a restart etcd still has those of before. Names that
// other hosts would leave out are not written.
func (c *Cluster) SetEndpoints(endpoints []Endpoint) {
	here := make(map[string]Endpoint, len(endpoints))
	for _, ep := range endpoints {
		nw, _ := c.Network(ep.Network)
		ep, without := ep.bounded(nw)
		if len(without) > 0 {
			c.log.WithField("endpoint", ep.ID).Debugf("other hosts are not told of %s", strings.Join(without, ", "))
		}
		here[c.keys.endpoint(ep.Network, c.id, ep.ID)] = ep
	}
	c.mu.Lock()
	c.endpoints = here
	on := slices.Collect(maps.Values(c.networks))
	c.mu.Unlock()
	for _, m := range on {
		c.reviewLost(m, true)
	}
	c.told.open()
	c.hurryPresence()
}

func (c *Cluster) hurryPresence() {
	wait.Signal(c.endpoint)
}

// keepPresent keeps this host and its endpoints in etcd under a lease. When the lease has run out, as that of a host
// that was stopped for a while, everything is written again under a new one.
func (c *Cluster) keepPresent(ctx context.Context) {
	select {
	case <-c.told.opened():
	case <-ctx.Done():
		return
	}
	c.retry(ctx, "keep this host in the cluster", func(ctx context.Context, report func(error)) error {
		old, err := c.lastPresence(ctx)
		if err != nil {
			return err
		}
		p, err := c.register(ctx)
		if err != nil {
			return err
		}
		client, err := c.etcd(ctx)
		if err != nil {
			return err
		}
		session, err := concurrency.NewSession(client, concurrency.WithLease(p.lease), concurrency.WithContext(ctx))
		if err != nil {
			return callError("keep the lease", err)
		}
		defer session.Orphan()
		err = c.keepRegistered(ctx, p, session.Done(), report, func() {
			c.revoke(ctx, old) // with what is there under it alone: endpoints that have gone meanwhile
			c.registered.open()
		})
		c.unsettle()
		return err
	})
}

// keepRegistered keeps what this host has in etcd, until the lease is over. It calls isThere when all is there for the
// first time. A call that fails is made again, with what is still to be changed, and no sooner than after a pause.
func (c *Cluster) keepRegistered(
	ctx context.Context, p *presence, over <-chan struct{}, report func(error), isThere func(),
) error {
	ticker := time.NewTicker(c.lease)
	defer ticker.Stop()
	var settled <-chan time.Time
	there := sync.OnceFunc(func() { isThere(); settled = time.After(c.lease) })
	failures := 0
	for err := c.writePresence(ctx, p); ; {
		changed, check, pause := (<-chan struct{})(c.endpoint), ticker.C, (<-chan time.Time)(nil)
		switch {
		case err == nil:
			failures = 0
			there()
		case !errors.Is(err, ErrUnreachable):
			return err
		default:
			changed, check, pause = nil, nil, time.After(c.pause(failures)) // what is to be written still is
			failures++
		}
		report(err)
		select {
		case <-ctx.Done():
			return nil
		case <-over:
			return errors.New("the lease has run out")
		case <-changed:
			err = c.writePresence(ctx, p)
		case <-pause:
			err = c.writePresence(ctx, p)
		case <-settled:
			c.settle()
		case <-check:
			err = c.checkPresence(ctx, p)
		}
	}
}

// presence is what etcd has of this host under a lease.
type presence struct {
	lease    clientv3.LeaseID
	revision int64 // at which the host's own record was written last
	// written is what etcd has; a value that is empty is not known, since the answer was lost. Then etcd may also make
	// that change later, unless the host's own record is written before.
	written map[string]string
}

// errNotThere says that somebody has changed what this host has in etcd.
var errNotThere = errors.New("etcd does not have this host any more as it was written")

// checkPresence asks etcd whether this host is in the cluster as it should. So it also learns, if nothing else happens,
// that etcd is another one.
func (c *Cluster) checkPresence(ctx context.Context, p *presence) error {
	answer, err := c.get(ctx, c.keys.host(c.id))
	if err != nil {
		return err
	}
	if len(answer.Kvs) == 0 || clientv3.LeaseID(answer.Kvs[0].Lease) != p.lease {
		return errNotThere
	}
	p.revision = answer.Kvs[0].ModRevision
	return nil
}

// writePresence makes etcd have what this host is and has.
func (c *Cluster) writePresence(ctx context.Context, p *presence) error {
	if slices.Contains(slices.Collect(maps.Values(p.written)), "") {
		if err := c.checkPresence(ctx, p); err != nil {
			return err
		}
		if err := c.change(ctx, p, map[string]string{c.keys.host(c.id): encode(c.self)}); err != nil {
			return err
		}
	}
	wanted := c.wantedPresence()
	changes := map[string]string{}
	for key, value := range wanted {
		if p.written[key] != value {
			changes[key] = value
		}
	}
	for key := range p.written {
		if _, ok := wanted[key]; !ok {
			changes[key] = ""
		}
	}
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(changes)), maxOperations) {
		some := map[string]string{}
		for _, key := range keys {
			some[key] = changes[key]
		}
		if err := c.change(ctx, p, some); err != nil {
			return err
		}
	}
	return nil
}

// change writes values, and removes the keys of empty ones, if the host's own record is as it was written last.
func (c *Cluster) change(ctx context.Context, p *presence, values map[string]string) error {
	var operations []clientv3.Op
	for key, value := range values {
		if value == "" {
			operations = append(operations, clientv3.OpDelete(key))
		} else {
			operations = append(operations, clientv3.OpPut(key, value, clientv3.WithLease(p.lease)))
		}
	}
	self := c.keys.host(c.id)
	answer, err := c.transact(ctx, "write what this host has", []clientv3.Cmp{unchanged(self, p.revision)}, operations)
	if err != nil {
		for key := range values {
			p.written[key] = ""
		}
		return err
	}
	if !answer.Succeeded {
		return errNotThere
	}
	if _, isSelf := values[self]; isSelf {
		p.revision = answer.Header.Revision
	}
	for key, value := range values {
		if p.written[key] = value; value == "" {
			delete(p.written, key)
		}
	}
	return nil
}

// wantedPresence returns what etcd is to have of this host under the presence lease.
func (c *Cluster) wantedPresence() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{c.keys.host(c.id): encode(c.self)}
	for key, ep := range c.endpoints {
		if m := c.networks[ep.Network]; m == nil || !m.isOther {
			out[key] = encode(ep)
		}
	}
	return out
}

// register writes this host under a new lease. It is ErrConflict if another machine is in the cluster with the id of
// this host, as that of a copied disk would be: what this host holds is that machine's then. A host of the same id and
// another address may also be this one, before its address changed: then its lease runs out soon.
func (c *Cluster) register(ctx context.Context) (*presence, error) {
	lease, err := c.grant(ctx, c.lease)
	if err != nil {
		return nil, err
	}
	revision, err := c.tryRegister(ctx, lease)
	if err != nil {
		if errors.Is(err, ErrConflict) {
			c.registered.close()
			c.holding.setDisplaced(true)
		}
		c.revoke(ctx, lease)
		return nil, err
	}
	c.holding.setDisplaced(false)
	c.holding.doubt() // while this host was not there it may have been forgotten, in part also
	put, err := store.Put(presenceKey, lease)
	if err != nil {
		return nil, err
	}
	if err := c.store.Apply(ctx, put); err != nil {
		return nil, err
	}
	return &presence{lease, revision, map[string]string{c.keys.host(c.id): encode(c.self)}}, nil
}

// tryRegister returns the revision at which the host was written.
func (c *Cluster) tryRegister(ctx context.Context, lease clientv3.LeaseID) (int64, error) {
	self := c.self
	key := c.keys.host(self.ID)
	for range maxTries {
		answer, err := c.get(ctx, key)
		if err != nil {
			return 0, err
		}
		compare := missing(key)
		if len(answer.Kvs) > 0 {
			kv := answer.Kvs[0]
			compare = unchanged(key, kv.ModRevision)
			there, err := parseHost(key, c.keys.hosts(), kv.Value)
			if err == nil && there.VTEP != self.VTEP {
				return 0, fmt.Errorf("%w: host %s (%s) has the id %s, too: if that is another machine with a copy of "+
					"this one's state, stop weave here, remove its state and start it again; if it is this one, "+
					"before its address changed, it goes within %s",
					ErrConflict, there.Name, there.VTEP, there.ID, c.lease)
			}
		}
		put := clientv3.OpPut(key, encode(self), clientv3.WithLease(lease))
		written, err := c.transact(ctx, "register", []clientv3.Cmp{compare}, []clientv3.Op{put})
		if err != nil {
			return 0, err
		}
		if written.Succeeded {
			return written.Header.Revision, nil
		}
	}
	return 0, fmt.Errorf("%w: another machine registers as host %s all the time", ErrConflict, self.ID)
}

func (c *Cluster) grant(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	client, err := c.etcd(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := call(ctx)
	defer cancel()
	answer, err := client.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return 0, callError("get a lease", err)
	}
	c.noteContact()
	return answer.ID, nil
}

// revoke ends a lease of this host's. If that fails it runs out by itself.
func (c *Cluster) revoke(ctx context.Context, lease clientv3.LeaseID) {
	if lease == clientv3.NoLease {
		return
	}
	ctx, cancel := call(ctx)
	defer cancel()
	client, err := c.etcd(ctx)
	if err == nil {
		_, err = client.Revoke(ctx, lease)
	}
	if err != nil {
		c.log.WithError(err).Debug("the lease before runs out by itself")
	}
}

func (c *Cluster) lastPresence(ctx context.Context) (clientv3.LeaseID, error) {
	records, err := store.Load[clientv3.LeaseID](ctx, c.store, presenceKey)
	return records[presenceKey], err
}
