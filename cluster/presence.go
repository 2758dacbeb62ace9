// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/weaveplugin/weave/store"
)

// presenceKey is the record of the presence lease that this host had last.
const presenceKey = "cluster/presence"

// SetEndpoints says which endpoints this host has on networks of the cluster. They are written to etcd in the
// background, and nothing is written before the first call: after a restart etcd still has those of before.
func (c *Cluster) SetEndpoints(endpoints []Endpoint) {
	c.mu.Lock()
	c.endpoints = make(map[string]Endpoint, len(endpoints))
	for _, ep := range endpoints {
		c.endpoints[c.keys.endpoint(ep.Network, c.id, ep.ID)] = ep
	}
	on := slices.Collect(maps.Values(c.networks))
	c.mu.Unlock()
	for _, m := range on {
		c.reviewLost(m, true)
	}
	c.told.open()
	c.hurryPresence()
}

func (c *Cluster) hurryPresence() {
	signal(c.endpoint)
}

// keepPresent keeps this host and its endpoints in etcd under a lease. When the lease has run out, as that of a host
// that was stopped for a while, everything is written again under a new one.
func (c *Cluster) keepPresent(ctx context.Context) {
	select {
	case <-c.told.opened():
	case <-ctx.Done():
		return
	}
	c.retry(ctx, "keep this host in the cluster", func(ctx context.Context, works func()) error {
		old, err := c.lastPresence(ctx)
		if err != nil {
			return err
		}
		lease, err := c.grant(ctx, c.lease)
		if err != nil {
			return err
		}
		if err := c.register(ctx, lease); err != nil {
			c.revoke(ctx, lease)
			return err
		}
		c.holding.doubt() // while this host was not there it may have been forgotten, in part also
		put, err := store.Put(presenceKey, lease)
		if err != nil {
			return err
		}
		if err := c.store.Apply(ctx, put); err != nil {
			return err
		}
		client, err := c.etcd()
		if err != nil {
			return err
		}
		session, err := concurrency.NewSession(client, concurrency.WithLease(lease), concurrency.WithContext(ctx))
		if err != nil {
			return callError("keep the lease", err)
		}
		defer session.Orphan()
		written := map[string]string{}
		if err := c.writePresence(ctx, lease, written); err != nil {
			return err
		}
		c.revoke(ctx, old) // with what is there under it alone: endpoints that have gone meanwhile
		c.registered.open()
		works()
		ticker := time.NewTicker(c.lease)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
				if err := c.checkPresence(ctx, lease); err != nil {
					return err
				}
			case <-session.Done():
				return errors.New("the lease has run out")
			case <-c.endpoint:
				if err := c.writePresence(ctx, lease, written); err != nil {
					return err
				}
			}
		}
	})
}

// checkPresence asks etcd now and then whether this host is in the cluster as it should. So it also learns, if nothing
// else happens, that etcd is another one.
func (c *Cluster) checkPresence(ctx context.Context, lease clientv3.LeaseID) error {
	answer, err := c.get(ctx, c.keys.host(c.id))
	if err != nil {
		return err
	}
	if len(answer.Kvs) == 0 || clientv3.LeaseID(answer.Kvs[0].Lease) != lease {
		return errors.New("etcd does not have this host any more as it was written")
	}
	return nil
}

// writePresence makes etcd have what this host is and has; written is what it has by now, which is updated.
func (c *Cluster) writePresence(ctx context.Context, lease clientv3.LeaseID, written map[string]string) error {
	wanted := c.presence()
	var operations []clientv3.Op
	for key, value := range wanted {
		if written[key] != value {
			operations = append(operations, clientv3.OpPut(key, value, clientv3.WithLease(lease)))
		}
	}
	for key := range written {
		if _, ok := wanted[key]; !ok {
			operations = append(operations, clientv3.OpDelete(key))
		}
	}
	if err := c.commitAll(ctx, "write what this host has", operations); err != nil {
		return err
	}
	clear(written)
	maps.Copy(written, wanted)
	return nil
}

// presence returns what etcd is to have of this host under the presence lease.
func (c *Cluster) presence() map[string]string {
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

// register writes this host. It is ErrConflict if another machine is in the cluster with the id of this host, as that
// of a copied disk would be: what this host holds is that machine's then. A host of the same id and another address may
// also be this one, before its address changed: then its lease runs out soon.
func (c *Cluster) register(ctx context.Context, lease clientv3.LeaseID) error {
	err := c.tryRegister(ctx, lease)
	switch {
	case err == nil:
		c.holding.setDisplaced(false)
	case errors.Is(err, ErrConflict):
		c.registered.close()
		c.holding.setDisplaced(true)
	}
	return err
}

func (c *Cluster) tryRegister(ctx context.Context, lease clientv3.LeaseID) error {
	self := c.self
	key := c.keys.host(self.ID)
	for range maxTries {
		answer, err := c.get(ctx, key)
		if err != nil {
			return err
		}
		compare := missing(key)
		if len(answer.Kvs) > 0 {
			kv := answer.Kvs[0]
			compare = unchanged(key, kv.ModRevision)
			there, err := parseHost(key, c.keys.hosts(), kv.Value)
			if err == nil && there.VTEP != self.VTEP {
				return fmt.Errorf("%w: host %s (%s) has the id %s, too: if that is another machine with a copy of "+
					"this one's state, stop weave here, remove its state and start it again; if it is this one, "+
					"before its address changed, it goes within %s",
					ErrConflict, there.Name, there.VTEP, there.ID, c.lease)
			}
		}
		put := clientv3.OpPut(key, encode(self), clientv3.WithLease(lease))
		if ok, err := c.commit(ctx, "register", []clientv3.Cmp{compare}, []clientv3.Op{put}); ok || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: another machine registers as host %s all the time", ErrConflict, self.ID)
}

func (c *Cluster) grant(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	client, err := c.etcd()
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
	client, err := c.etcd()
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
