package driver

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// removalTime bounds the removal of one veth pair.
const removalTime = 30 * time.Second

// removals are the veth pairs on their way out, which nobody waits for but who needs their names or ports.
type removals struct {
	group   sync.WaitGroup
	kernel  sync.Mutex // held while one pair goes: the kernel removes them one after the other anyway
	mu      sync.Mutex // guards pending
	pending map[EndpointID]removal
}

type removal struct {
	network NetworkID
	done    chan struct{}
}

// start runs remove for the endpoint in the background.
func (r *removals) start(ep Endpoint, remove func(ctx context.Context)) {
	done := make(chan struct{})
	r.mu.Lock()
	if r.pending == nil {
		r.pending = map[EndpointID]removal{}
	}
	r.pending[ep.ID] = removal{ep.Network, done}
	r.mu.Unlock()
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

func (r *removals) wait() { r.group.Wait() }

// count is the number of pairs on their way out of a network.
func (r *removals) count(nw NetworkID) int {
	return len(r.of(func(_ EndpointID, x removal) bool { return x.network == nw }))
}

// settle waits until the pairs on their way out of a network are gone.
func (r *removals) settle(ctx context.Context, nw NetworkID) error {
	return await(ctx, r.of(func(_ EndpointID, x removal) bool { return x.network == nw }))
}

// settleEndpoint waits until the endpoint's pair, if it is on its way out, is gone.
func (r *removals) settleEndpoint(ctx context.Context, id EndpointID) error {
	return await(ctx, r.of(func(other EndpointID, _ removal) bool { return other == id }))
}

func (r *removals) of(match func(EndpointID, removal) bool) []removal {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := maps.Clone(r.pending)
	maps.DeleteFunc(found, func(id EndpointID, x removal) bool { return !match(id, x) })
	return slices.Collect(maps.Values(found))
}

func await(ctx context.Context, rs []removal) error {
	for _, r := range rs {
		select {
		case <-r.done:
		case <-ctx.Done():
			return fmt.Errorf("wait for veth pairs of network %s to go: %w", r.network, ctx.Err())
		}
	}
	return nil
}

// retire marks the endpoint as going and lets its veth pair go in the background. A crash leaves it to Reconcile.
func (d *Driver) retire(ctx context.Context, ep Endpoint) error {
	if err := d.writeEndpoint(ctx, ep, going); err != nil {
		return err
	}
	d.untrack(ep)
	d.removals.start(ep, func(ctx context.Context) {
		if err := d.unmakeEndpoint(ctx, ep); err != nil {
			d.log.WithField("network", ep.Network).WithField("endpoint", ep.ID).WithError(err).
				Error("veth pair not removed: it will be at the plugin's next start")
		}
	})
	return nil
}

// unmakeEndpoint takes away the endpoint's veth pair, then its record.
func (d *Driver) unmakeEndpoint(ctx context.Context, ep Endpoint) error {
	if err := d.links.deleteNamed(ep.HostEnd, "veth", endpointAlias(d.stateID, ep.ID)); err != nil {
		return err
	}
	return d.eraseEndpoint(ctx, ep)
}
