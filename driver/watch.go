package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

const (
	// eventBuffer holds the link events of a burst, in bytes: some 2 kB each.
	eventBuffer = 4 << 20
	// watchPause is the time between two tries to hear the kernel's link events.
	watchPause = time.Second
	// configureTime bounds the work in one sandbox.
	configureTime = 10 * time.Second
	// configureAttempts is how often the work in one sandbox is tried, configurePause the time after each try.
	configureAttempts = 3
	configurePause    = time.Second
	// configureAtOnce is how many sandboxes are worked in at the same time.
	configureAtOnce = 4
)

// watchLinks follows the carrier of the host ends until ctx ends: it comes up when Docker has set the container end up,
// addresses and all. When events were lost it begins anew with the present state of every link.
func (d *Driver) watchLinks(ctx context.Context) error {
	c := newConfigurator(d)
	defer c.group.Wait()
	for ctx.Err() == nil {
		if err := d.followLinks(ctx, c); err != nil && ctx.Err() == nil {
			d.log.WithError(err).Warn("link events: listening again")
			pause(ctx, watchPause)
		}
	}
	return nil
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (d *Driver) followLinks(ctx context.Context, c *configurator) error {
	updates := make(chan netlink.LinkUpdate, 256)
	done := make(chan struct{})
	// Not ListExisting: the library sends that request to all who listen, and each takes it for an error. Other errors than
	// the end of the events are for the same reason not ours to act on.
	options := netlink.LinkSubscribeOptions{
		ReceiveBufferSize:      eventBuffer,
		ReceiveBufferForceSize: true, // CAP_NET_ADMIN allows to pass net.core.rmem_max
	}
	if err := netlink.LinkSubscribeWithOptions(updates, done, options); err != nil {
		close(done) // the library's socket may be open
		return fmt.Errorf("subscribe to link events: %w", err)
	}
	defer func() {
		close(done)
		for range updates { // the library's reader ends only once nobody keeps it waiting
		}
	}()
	note := func(name string, up bool) {
		if !strings.HasPrefix(name, hostEndPrefix) {
			return
		}
		if ep, came := d.setCarrier(name, up); came {
			c.start(ctx, ep)
		}
	}
	existing, err := listLinks(ctx)
	if err != nil {
		return err
	}
	for _, link := range existing {
		note(link.Attrs().Name, carrier(link))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			if !ok {
				return errors.New("the kernel's link events ended: too many at once")
			}
			note(u.Attrs().Name, u.Header.Type == unix.RTM_NEWLINK && u.IfInfomsg.Flags&unix.IFF_LOWER_UP != 0)
		}
	}
}

// setCarrier notes the carrier of a host end; came means that the container end has just come up in its sandbox.
func (d *Driver) setCarrier(hostEnd string, up bool) (ep Endpoint, came bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ep, ok := d.endpoints[d.hostEnds[hostEnd]]
	if !ok || ep.Sandbox == "" {
		return ep, false
	}
	came = up && ep.State != Up
	ep.State = Joined
	if up {
		ep.State = Up
	}
	d.endpoints[ep.ID] = ep
	return ep, came
}

// configurator has nsproc do in a sandbox what Docker leaves undone there. What happens in one container, its link going
// up and down all the time for instance, costs the others nothing: each endpoint has one job at most, and that uses a slot
// once in configurePause at most.
type configurator struct {
	d     *Driver
	slots chan struct{}
	group sync.WaitGroup
	mu    sync.Mutex
	jobs  map[EndpointID]bool // those under way; true: the carrier has come again, so it has to be done again
}

func newConfigurator(d *Driver) *configurator {
	return &configurator{d: d, slots: make(chan struct{}, configureAtOnce), jobs: map[EndpointID]bool{}}
}

// start configures the endpoint's container end in the background, if its network needs that.
func (c *configurator) start(ctx context.Context, ep Endpoint) {
	nw, ok := c.d.network(ep.Network)
	if !ok || nw.Announced && !nw.Multicast && !nw.hasIPv6() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, underWay := c.jobs[ep.ID]
	c.jobs[ep.ID] = underWay
	if underWay {
		return
	}
	c.group.Go(func() {
		for again := true; again; again = c.again(ctx, ep.ID) {
			c.work(ctx, nw, ep)
		}
	})
}

// again reports whether the job has to be done once more; if not, it is none any more.
func (c *configurator) again(ctx context.Context, id EndpointID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.jobs[id] && ctx.Err() == nil {
		c.jobs[id] = false
		return true
	}
	delete(c.jobs, id)
	return false
}

// work configures the container end, a few times if that fails.
func (c *configurator) work(ctx context.Context, nw Network, ep Endpoint) {
	log := c.d.log.WithField("network", ep.Network).WithField("endpoint", ep.ID).WithField("sandbox", ep.Sandbox)
	for attempt := 1; c.there(ep) && ctx.Err() == nil; attempt++ {
		start := time.Now()
		skipped, err := c.inSlot(ctx, nw, ep)
		switch {
		case err == nil:
			log.WithField("took", time.Since(start)).WithField("skipped", skipped).Debug("container end configured")
		case !c.there(ep) || ctx.Err() != nil:
		case attempt < configureAttempts:
			log.WithError(err).Debug("container end not configured: trying again")
		default:
			log.WithError(err).Warn("container end not configured: it works, but neighbours may take a while to notice it")
		}
		pause(ctx, configurePause)
		if err == nil || attempt == configureAttempts {
			return
		}
	}
}

func (c *configurator) inSlot(ctx context.Context, nw Network, ep Endpoint) (skipped []string, err error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return c.configure(ctx, nw, ep)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// there reports whether the endpoint is in its sandbox still.
func (c *configurator) there(ep Endpoint) bool {
	now, ok := c.d.endpoint(ep.ID)
	return ok && now.Sandbox == ep.Sandbox
}

func (c *configurator) configure(ctx context.Context, nw Network, ep Endpoint) (skipped []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, configureTime)
	defer cancel()
	link, err := findLink(ep.HostEnd)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return nil, fmt.Errorf("%w: host end %s", ErrNotFound, ep.HostEnd)
	}
	address, err := mac.Parse(ep.MAC)
	if err != nil {
		return nil, err
	}
	return c.d.launcher.Configure(ctx, ep.Sandbox, protocol.Configure{
		Peer: link.Attrs().Index, MAC: address, Addresses: ep.Addresses,
		Announce: !nw.Announced, Multicast: nw.Multicast, IPv6: nw.hasIPv6(),
	})
}
