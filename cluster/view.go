// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/store"
)

// The records of what this host knew last of the others, from which it goes on when weave starts without etcd: after a
// reboot its containers reach those of other hosts.
const (
	viewPrefix         = "cluster/view/"
	viewHostPrefix     = viewPrefix + "host/"     // + HOST: Host
	viewEndpointPrefix = viewPrefix + "endpoint/" // + NETWORK/HOST/ENDPOINT: Endpoint
	contactKey         = "cluster/contact"        // time of etcd's last answer, which all of that is as old as
)

const (
	// viewPause is the time between two writes of the view, which many hosts change at their own pace.
	viewPause = time.Second
	// viewChanges is how many records one write has at most.
	viewChanges = 1000
	// contactStep is how much older than etcd's last answer the record of its time may be.
	contactStep = time.Minute
)

// view says in which records the store differs from what this host knows of the others. Its keeper holds the Cluster's
// lock.
type view struct {
	changed chan struct{}       // has a value when there is something to write
	stale   map[string]struct{} // keys of records
	contact time.Time           // as the store has it; keepView's alone
}

// note has a record written soon, or removed.
func (v *view) note(key string) {
	v.stale[key] = struct{}{}
	wait.Signal(v.changed)
}

// hostRecord and endpointRecord are the keys of records of the view. An endpoint of another host has a key in etcd.
func hostRecord(id string) string { return viewHostPrefix + id }

func (c *Cluster) endpointRecord(key string) string {
	return viewEndpointPrefix + strings.TrimPrefix(key, c.keys.allEndpoints())
}

// loadView takes over what the store has, for the networks that this host is on.
func (c *Cluster) loadView(ctx context.Context) error {
	contacts, err := store.Load[time.Time](ctx, c.store, contactKey)
	if err != nil {
		return err
	}
	c.contact = contacts[contactKey]
	records, err := c.store.List(ctx, viewPrefix)
	if err != nil {
		return err
	}
	for _, r := range records {
		if strings.HasPrefix(r.Key, viewHostPrefix) {
			h, err := parseHost(r.Key, viewHostPrefix, r.Value)
			if err != nil {
				return fmt.Errorf("record %s: %w: %w", r.Key, store.ErrDamaged, err)
			}
			c.hosts[h.ID], c.hostsRead = h, true
			continue
		}
		rest := strings.TrimPrefix(r.Key, viewEndpointPrefix)
		network, _, _ := strings.Cut(rest, "/")
		m := c.networks[network]
		if m == nil { // left without its view
			c.view.note(r.Key)
			continue
		}
		key := c.keys.allEndpoints() + rest
		if ep, ok := c.remote(m.network, record{key: key, value: r.Value}); ok {
			m.remotes[key], m.seen = ep, true
		} else {
			c.view.note(r.Key)
		}
	}
	return nil
}

// keepView writes the view each time it has changed, until ctx ends, and now and then since when it may be old.
func (c *Cluster) keepView(ctx context.Context) {
	tick := time.NewTicker(contactStep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
			defer cancel()
			c.writeContact(ctx)
			return
		case <-tick.C:
			c.writeContact(ctx)
		case <-c.view.changed:
			if err := c.writeView(ctx); err != nil && ctx.Err() == nil {
				c.log.WithError(err).Warn("what this host knows of the others is not written: trying again")
			}
			wait.For(ctx, viewPause)
		}
	}
}

// writeContact makes the store have when etcd has answered last, if it has since weave's start.
func (c *Cluster) writeContact(ctx context.Context) {
	last, sinceStart := c.Contact()
	if !sinceStart || last.Equal(c.view.contact) {
		return
	}
	put, err := store.Put(contactKey, last)
	if err == nil {
		err = c.store.Apply(ctx, put)
	}
	if err != nil {
		c.log.WithError(err).Warn("when etcd has answered last is not written")
		return
	}
	c.view.contact = last
}

// writeView makes the store have what this host knows of the others. What it could not write it writes the next time.
func (c *Cluster) writeView(ctx context.Context) error {
	changes := c.viewChanges()
	for some := range slices.Chunk(changes, viewChanges) {
		if err := c.store.Apply(ctx, some...); err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, ch := range changes {
				c.view.note(ch.Key)
			}
			return err
		}
	}
	return nil
}

// viewChanges takes the changes that the store lacks.
func (c *Cluster) viewChanges() []store.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := make([]store.Change, 0, len(c.view.stale))
	for _, key := range slices.Sorted(maps.Keys(c.view.stale)) { // in the store's order they are written much faster
		change := store.Delete(key)
		if value := c.viewRecord(key); value != "" {
			change.Value = []byte(value)
		}
		changes = append(changes, change)
	}
	c.view.stale = map[string]struct{}{} // a map keeps the room that it once had
	return changes
}

// viewRecord returns the value that a record of the view has to have; empty: there is none. The caller holds the lock.
func (c *Cluster) viewRecord(key string) string {
	if id, ok := strings.CutPrefix(key, viewHostPrefix); ok {
		if h, there := c.hosts[id]; there && id != c.id {
			return encode(h)
		}
		return ""
	}
	rest := strings.TrimPrefix(key, viewEndpointPrefix)
	network, _, _ := strings.Cut(rest, "/")
	if m := c.networks[network]; m != nil {
		if ep, there := m.remotes[c.keys.allEndpoints()+rest]; there {
			return encode(ep)
		}
	}
	return ""
}
