// SPDX-License-Identifier: Apache-2.0

// Package dockersync keeps weave in line with Docker. A Watcher reads from Docker's API what Docker calls networks and
// containers, and which networks and endpoints it holds weave responsible for. A Comparison acts on the differences: it
// adds to weave what only Docker has, and releases what Docker has forgotten.
//
// It runs in the host's network namespace, in the background. Of Docker it only reads.
package dockersync

import (
	"context"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/ipam"
)

// Docker is what a Comparison reads. Watcher is one.
type Docker interface {
	Known(context.Context) (Known, error)
}

// Networks are the networks and endpoints that weave tracks. driver.Driver is one.
type Networks interface {
	Networks() []driver.Network
	Endpoints() []driver.Endpoint
	Adopt(context.Context, driver.NetworkSpec, []driver.AdoptedEndpoint) error
	Forget(ctx context.Context, known map[driver.EndpointID]bool, before time.Time) ([]driver.EndpointID, error)
	DeleteNetwork(context.Context, driver.NetworkID) error
	ReleaseClaims(
		ctx context.Context, id driver.NetworkID, known []driver.AdoptedEndpoint, shared []netip.Prefix,
	) error
	// DockerSince returns when the present Docker daemon began to call; zero: before weave started.
	DockerSince() time.Time
}

// Pools are the pools and addresses that weave tracks. ipam.IPAM is one.
type Pools interface {
	Pools() []ipam.Pool
	Addresses(ipam.PoolID) []ipam.Address
	Forget(ctx context.Context, space string, known ipam.Known, before time.Time) ([]ipam.Forgotten, error)
	RequestPool(context.Context, ipam.PoolRequest) (ipam.Pool, error)
	Hold(ctx context.Context, space string, addresses []netip.Prefix) ([]netip.Prefix, error)
}

// Timing says when Docker is read.
type Timing struct {
	Interval time.Duration // between two readings
	Retry    time.Duration // in its place after a reading that failed, and after the first of the two that are needed
	Grace    time.Duration // what is younger than this at the earlier reading may still be in the making
	Deadline time.Duration // of one comparison

	// After Hurry there are two readings, and what follows is in place of the times above.
	HurryPause time.Duration // between the two, and the least time between any readings in a hurry
	HurryGrace time.Duration // in place of Grace, for networks, pools and addresses
}

const (
	// maxRetry bounds Timing.Retry: a weave that starts before Docker, or that is new, soon adopts what is there,
	// however seldom it compares afterwards.
	maxRetry = 10 * time.Second
	// maxDeadline bounds Timing.Deadline: a Docker that hangs is not waited for longer because it is seldom read.
	maxDeadline = 45 * time.Second
	// maxHurryPause bounds Timing.HurryPause. What Docker is removing it lists for a moment longer than weave has it.
	maxHurryPause = time.Second
	// maxHurryGrace bounds Timing.HurryGrace. Docker's calls for a network that it makes follow each other at once; one
	// takes at most 20 s (plugin/remote), and Docker waits up to 8 s before it repeats one that failed.
	maxHurryGrace = 30 * time.Second
)

// NewTiming returns the Timing for an interval.
func NewTiming(interval time.Duration) Timing {
	return Timing{
		Interval: interval,
		Retry:    min(interval/6, maxRetry),
		Grace:    interval,
		Deadline: min(max(interval*3/4, callDeadline), maxDeadline),

		HurryPause: min(interval/6, maxHurryPause),
		HurryGrace: min(interval, maxHurryGrace),
	}
}

// ComparisonOptions are what a Comparison works with; all but Swarm are required.
type ComparisonOptions struct {
	Docker   Docker
	Networks Networks
	Pools    Pools
	Timing   Timing
	Swarm    bool // Docker keeps the networks of weave's in its swarm (scope global)
	Log      *logrus.Entry
}

// Comparison compares what weave tracks with what Docker has, and brings weave in line: a Docker that was killed, or
// that made calls while weave was away, forgets networks and endpoints without a call; and a weave whose state is new
// does not know those that are there.
//
// Docker's answers can be incomplete while it starts, and what is being made is not in them yet. So the comparison acts
// only on what two readings in a row agree upon.
type Comparison struct {
	docker   Docker
	networks Networks
	pools    Pools
	timing   Timing
	swarm    bool
	log      *logrus.Entry
	hurry    chan struct{} // holds a token while somebody waits for a comparison
}

// NewComparison returns a Comparison. It reads nothing yet.
func NewComparison(o ComparisonOptions) *Comparison {
	return &Comparison{
		docker: o.Docker, networks: o.Networks, pools: o.Pools, timing: o.Timing, swarm: o.Swarm, log: o.Log,
		hurry: make(chan struct{}, 1),
	}
}

// reading is what Docker answered, in full.
type reading struct {
	Known
	begun     time.Time
	untracked contents // what weave did not have then
}

// Hurry has Run compare as soon as possible, since somebody waits for what weave still tracks, or does not track yet.
// It returns at once: Docker is read in the background, while it may wait for the answer to a call.
func (c *Comparison) Hurry() {
	wait.Signal(c.hurry)
}

// Run compares until ctx ends.
func (c *Comparison) Run(ctx context.Context) {
	var earlier *reading
	hurried := 0 // how many readings are still to be made in a hurry
	for {
		begun := time.Now()
		latest, err := c.compare(ctx, earlier, hurried > 0)
		if err == nil {
			hurried = max(hurried-1, 0)
		}
		pause := c.timing.Interval
		switch {
		case err != nil:
			pause = c.timing.Retry
		case hurried > 0, earlier == nil && latest.untracked.any():
			pause = c.timing.HurryPause
		case earlier == nil:
			pause = c.timing.Retry
		}
		if err != nil && ctx.Err() == nil {
			c.log.WithError(err).Debug("compare with docker: will be tried again")
		}
		earlier = latest
		if c.wait(ctx, pause, begun) {
			hurried = 2
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// wait waits until another reading is due after the one that was begun at the given time, and reports whether that is
// so because of Hurry.
func (c *Comparison) wait(ctx context.Context, pause time.Duration, begun time.Time) (hurry bool) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return false
	case <-c.hurry:
		wait.For(ctx, time.Until(begun.Add(c.timing.HurryPause)))
		return true
	}
}

// compare reads Docker and acts on what this reading and the earlier one agree upon. It returns this reading, or nil if
// it failed: two new ones are needed then. What Docker has forgotten goes first, since it may be in the way of what is
// taken up.
func (c *Comparison) compare(ctx context.Context, earlier *reading, hurry bool) (*reading, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timing.Deadline)
	defer cancel()
	ctx = driver.WithCause(ctx, driver.Cause{Kind: driver.CauseComparison})
	begun := time.Now()
	known, err := c.docker.Known(ctx)
	if err != nil {
		return nil, err
	}
	tracked := c.tracked()
	latest := &reading{Known: known, begun: begun, untracked: known.contents().without(tracked)}
	switch {
	case earlier != nil:
		c.forget(ctx, earlier, latest, c.oldEnough(earlier, hurry))
		c.adopt(ctx, latest, earlier.untracked)
		c.releaseClaims(ctx, earlier, latest)
	case !tracked.any(): // weave is new here: nothing can have been removed through it while Docker was read
		c.adopt(ctx, latest, latest.untracked)
	}
	return latest, nil
}

// contents are networks, endpoints, and the subnets and addresses of weave's IPAM.
type contents struct {
	networks  map[driver.NetworkID]bool
	endpoints map[driver.EndpointID]bool
	subnets   map[netip.Prefix]bool
	addresses map[netip.Prefix]bool // with the lengths of their subnets
}

func newContents() contents {
	return contents{
		map[driver.NetworkID]bool{}, map[driver.EndpointID]bool{}, map[netip.Prefix]bool{}, map[netip.Prefix]bool{},
	}
}

// tracked returns what weave has now.
func (c *Comparison) tracked() contents {
	out := newContents()
	for _, nw := range c.networks.Networks() {
		out.networks[nw.ID] = true
	}
	for _, ep := range c.networks.Endpoints() {
		out.endpoints[ep.ID] = true
	}
	for _, p := range c.pools.Pools() {
		if p.Space != ipam.LocalSpace {
			continue
		}
		out.subnets[p.Subnet] = true
		for _, a := range c.pools.Addresses(p.ID) {
			out.addresses[netip.PrefixFrom(a.Address, p.Subnet.Bits())] = true
		}
	}
	return out
}

// contents returns what Docker has.
func (k Known) contents() contents {
	out := newContents()
	for _, n := range k.Networks {
		out.networks[n.ID] = true
		if !k.usesPools(n) {
			continue
		}
		for _, s := range n.Subnets {
			out.subnets[s.Subnet] = true
			for _, a := range k.inUse(n.ID, s) {
				out.addresses[a] = true
			}
		}
	}
	for _, ep := range k.Endpoints {
		out.endpoints[ep.ID] = true
	}
	return out
}

// without returns what is in c and not in other.
func (c contents) without(other contents) contents {
	return contents{
		difference(c.networks, other.networks),
		difference(c.endpoints, other.endpoints),
		difference(c.subnets, other.subnets),
		difference(c.addresses, other.addresses),
	}
}

func difference[K comparable](a, b map[K]bool) map[K]bool {
	out := map[K]bool{}
	for k := range a {
		if !b[k] {
			out[k] = true
		}
	}
	return out
}

// any reports whether there is any network, endpoint, subnet or address.
func (c contents) any() bool {
	return len(c.networks)+len(c.endpoints)+len(c.subnets)+len(c.addresses) > 0
}
