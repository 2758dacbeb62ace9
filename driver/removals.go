// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// removalTime bounds the removal of one veth pair.
const removalTime = 30 * time.Second

// removals are the veth pairs that are being removed in the background. Only requests that need their names or their
// ports wait for them.
type removals struct {
	group   sync.WaitGroup
	kernel  sync.Mutex // held while one pair is removed: the kernel removes one after the other anyway
	mu      sync.Mutex // guards pending
	pending map[EndpointID]removal
}

type removal struct {
	Endpoint
	done chan struct{} // closed at the end
}

// add notes that the endpoint's pair is about to be removed, and returns a function that runs remove in the background.
func (r *removals) add(ep Endpoint, remove func(ctx context.Context)) (start func()) {
	done := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = map[EndpointID]removal{}
	}
	r.pending[ep.ID] = removal{ep, done}
	return func() {
		r.group.Go(func() {
			r.kernel.Lock()
			ctx, cancel := context.WithTimeout(context.Background(), removalTime)
			defer cancel()
			remove(ctx)
			r.kernel.Unlock()
			r.mu.Lock()
			delete(r.pending, ep.ID)
			r.mu.Unlock()
			close(done)
		})
	}
}

// close waits until every removal has ended.
func (r *removals) close() { r.group.Wait() }

// count returns how many pairs of a network are being removed.
func (r *removals) count(nw NetworkID) int { return len(r.of(nw)) }

// wait waits until no pair of the network is being removed.
func (r *removals) wait(ctx context.Context, nw NetworkID) error { return await(ctx, r.of(nw)) }

// waitEndpoint waits until the endpoint's pair is not being removed.
func (r *removals) waitEndpoint(ctx context.Context, id EndpointID) error {
	return await(ctx, r.matching(func(x removal) bool { return x.ID == id }))
}

// has reports whether the endpoint's pair is being removed.
func (r *removals) has(id EndpointID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.pending[id]
	return ok
}

func (r *removals) of(nw NetworkID) []removal {
	return r.matching(func(x removal) bool { return x.Network == nw })
}

func (r *removals) matching(match func(removal) bool) []removal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Values(r.pending)), func(x removal) bool { return !match(x) })
}

func await(ctx context.Context, rs []removal) error {
	for _, r := range rs {
		select {
		case <-r.done:
		case <-ctx.Done():
			return fmt.Errorf("wait for veth pairs of network %s to be removed: %w", r.Network, ctx.Err())
		}
	}
	return nil
}

// retire marks the endpoint as going and has its veth pair removed in the background. If weave ends before that,
// Reconcile removes it. The removal is pending before the endpoint is untracked: at no time does the pair look
// forgotten.
func (d *Driver) retire(ctx context.Context, ep Endpoint) error {
	if nw, ok := d.tracked.network(ep.Network); ok {
		if err := errors.Join(d.giveBack(ctx, nw, ep.Claimed), d.releaseMAC(ctx, nw, ep.ID, ep.MAC)); err != nil {
			return err
		}
	}
	if err := d.writeEndpoint(ctx, ep, Going); err != nil {
		return err
	}
	start := d.removals.add(ep, func(ctx context.Context) {
		if err := d.removeEndpoint(ctx, ep); err != nil {
			d.logOf(ep).WithError(err).Error("veth pair not removed: it will be at the plugin's next start")
		}
	})
	d.tracked.removeEndpoint(ep.ID, causeOf(ctx))
	start()
	return nil
}

// removeEndpoint removes the endpoint's veth pair, then its record. If the first fails the record stays, so that
// Reconcile removes both.
func (d *Driver) removeEndpoint(ctx context.Context, ep Endpoint) error {
	if err := d.links.removeOurs(ep.HostEnd, "veth", endpointAlias(d.stateID, ep.ID)); err != nil {
		return err
	}
	return d.eraseEndpoint(ctx, ep)
}
