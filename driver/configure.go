// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

const (
	// configureTime bounds the work in one sandbox.
	configureTime = 10 * time.Second
	// configureAttempts is how often the work in one sandbox is tried, configurePause the time after each try.
	configureAttempts = 3
	configurePause    = time.Second
	// configureAtOnce is how many sandboxes are worked in at the same time.
	configureAtOnce = 4
	// configureBuffer is how many changes of the feed are kept for the configurator.
	configureBuffer = 1024
)

// configurator runs nsproc in a sandbox each time a container end comes up there, for what Docker does not configure.
// It follows the feed. A container whose link goes up and down all the time does not delay the others: each endpoint
// has at most one job, which uses a slot at most once in configurePause.
type configurator struct {
	d       *Driver
	changes *Subscription
	slots   *semaphore.Weighted
	group   sync.WaitGroup
	mu      sync.Mutex
	jobs    map[EndpointID]*Endpoint // those at work; not nil: the endpoint has come up again, as it is then
}

func newConfigurator(d *Driver) *configurator {
	changes, _ := d.Subscribe(configureBuffer)
	return &configurator{
		d: d, changes: changes, slots: semaphore.NewWeighted(configureAtOnce), jobs: map[EndpointID]*Endpoint{},
	}
}

// run configures the endpoints that are up now and those that come up, until ctx ends.
func (c *configurator) run(ctx context.Context) {
	defer c.group.Wait()
	defer c.changes.Close()
	c.startAll(ctx)
	for {
		switch change, err := c.changes.Next(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil: // changes were missed
			c.startAll(ctx)
		case change.Kind == EndpointUp:
			c.start(ctx, change.Endpoint)
			c.d.lookAtWaysOut()
			c.startOthers(ctx, change.Endpoint.Network)
		case change.Kind == EndpointLeft:
			c.startOthers(ctx, change.Endpoint.Network)
		}
	}
}

// startAll configures every endpoint that is up. Doing it again does no harm.
func (c *configurator) startAll(ctx context.Context) {
	c.d.lookAtWaysOut()
	for _, ep := range c.changes.Resync().Endpoints {
		if ep.State() == Up {
			c.start(ctx, ep)
		}
	}
}

// startOthers configures the endpoints that have a way out by IPv6 unless their containers are on this network, whose
// router is somebody else.
func (c *configurator) startOthers(ctx context.Context, router NetworkID) {
	if nw, ok := c.d.tracked.network(router); !ok || !nw.hasRouter() {
		return
	}
	for _, ep := range c.d.tracked.Endpoints() {
		if nw, ok := c.d.tracked.network(ep.Network); ok && ep.State() == Up && nw.besideDockers(ep).IsValid() {
			c.start(ctx, ep)
		}
	}
}

// start configures the endpoint's container end in the background, if its network needs that.
func (c *configurator) start(ctx context.Context, ep Endpoint) {
	nw, ok := c.d.tracked.network(ep.Network)
	if !ok || nw.Announced && !nw.Multicast && !nw.isRouter(ep) && !nw.besideDockers(ep).IsValid() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, atWork := c.jobs[ep.ID]; atWork {
		c.jobs[ep.ID] = &ep
		return
	}
	c.jobs[ep.ID] = nil
	c.group.Go(func() {
		for next := &ep; next != nil; next = c.next(ctx, ep.ID) {
			c.work(ctx, nw, *next)
		}
	})
}

// next returns the endpoint if its job has to be done once more, since it has come up again. Otherwise the job ends.
func (c *configurator) next(ctx context.Context, id EndpointID) *Endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ep := c.jobs[id]; ep != nil && ctx.Err() == nil {
		c.jobs[id] = nil
		return ep
	}
	delete(c.jobs, id)
	return nil
}

// work configures the container end, a few times if that fails.
func (c *configurator) work(ctx context.Context, nw Network, ep Endpoint) {
	log := c.d.logOf(ep).WithField("sandbox", ep.Sandbox)
	for attempt := 1; c.isThere(ep) && ctx.Err() == nil; attempt++ {
		start := time.Now()
		skipped, err := c.configure(ctx, nw, ep)
		switch {
		case err == nil:
			log.WithField("took", time.Since(start)).WithField("skipped", skipped).Debug("container end configured")
			if nw.isRouter(ep) && len(skipped) > 0 {
				log.Warnf("the network's router lacks what its containers send to: %s", strings.Join(skipped, "; "))
			}
		case !c.isThere(ep) || ctx.Err() != nil:
		case attempt < configureAttempts:
			log.WithError(err).Debug("container end not configured: trying again")
		default:
			log.WithError(err).Warn(
				"container end not configured: it works, but neighbours may take a while to notice it")
		}
		wait.For(ctx, configurePause)
		if err == nil || attempt == configureAttempts {
			return
		}
	}
}

// isThere reports whether the endpoint is still in its sandbox.
func (c *configurator) isThere(ep Endpoint) bool {
	now, ok := c.d.tracked.endpoint(ep.ID)
	return ok && now.Sandbox == ep.Sandbox
}

// configure runs nsproc in the sandbox as soon as a slot is free.
func (c *configurator) configure(ctx context.Context, nw Network, ep Endpoint) (skipped []string, err error) {
	if err := c.slots.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer c.slots.Release(1)
	ctx, cancel := context.WithTimeout(ctx, configureTime)
	defer cancel()
	request, err := c.d.configuration(nw, ep)
	if err != nil {
		return nil, err
	}
	return c.d.launcher.Configure(ctx, ep.Sandbox, request)
}

// configuration returns how the endpoint's container end has to be configured.
func (d *Driver) configuration(nw Network, ep Endpoint) (protocol.Configure, error) {
	link, err := findLink(ep.HostEnd)
	if err != nil {
		return protocol.Configure{}, err
	}
	if link == nil {
		return protocol.Configure{}, fmt.Errorf("%w: host end %s", ErrNotFound, ep.HostEnd)
	}
	c := protocol.Configure{
		Peer: link.Attrs().Index, MAC: ep.MAC, Addresses: ep.Addresses,
		Announce: !nw.Announced, Multicast: nw.Multicast,
	}
	if !d.leavesByRouter(ep) {
		c.IPv6Gateway = nw.besideDockers(ep)
	}
	if nw.isRouter(ep) {
		for _, gateway := range nw.poolGateways() {
			c.Gateways = append(c.Gateways, gateway.Addr())
		}
	}
	return c, nil
}
