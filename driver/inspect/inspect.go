// SPDX-License-Identifier: Apache-2.0

// Package inspect looks at what the kernel really has of endpoints and finds the drift: where that differs from what
// weave tracks, when it is asked and when the kernel tells of changes. It changes nothing.
//
// It runs in the host's network namespace and never leaves it. It looks into a container's namespace by asking the
// kernel for it by its id (netnsid), or by running nsproc there.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netnsid"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// Observation is what is really there of an endpoint.
type Observation struct {
	Source api.Source     // who looked into the sandbox
	Err    error          // why the sandbox could not be looked into
	Bridge string         // the bridge that the host end is a port of; empty: none
	Down   bool           // that bridge is down
	Host   *netstate.Link // the host end; nil: missing
	Inside *netstate.Link // the container end as found in the sandbox; nil: missing, or not known because of Err
}

// Inspector looks at endpoints. Its methods may be called from several goroutines at once.
type Inspector struct {
	launcher *launch.Launcher
	kernel   *netnsid.Querier
	log      *logrus.Entry
	nsprocs  *semaphore.Weighted // bounds how many nsprocs run at a time, over all calls of Observe and Examine
	looks    *semaphore.Weighted // likewise how many sandboxes are open for the kernel
}

// New returns an Inspector. kernel must be of the host's namespace; the caller closes it when the Inspector is no
// longer in use.
func New(launcher *launch.Launcher, kernel *netnsid.Querier, log *logrus.Entry) *Inspector {
	atOnce := int64(parallel())
	return &Inspector{
		launcher: launcher, kernel: kernel, log: log,
		nsprocs: semaphore.NewWeighted(atOnce), looks: semaphore.NewWeighted(atOnce),
	}
}

// parallel is how many sandboxes are looked into at a time.
func parallel() int { return 2 * runtime.NumCPU() }

// Observe returns what is really there of the endpoints: their host ends, and their container ends as source finds them
// in the sandboxes. It only looks at the host end of an endpoint without a sandbox. The result has no endpoint at all
// if the host's links can't be read.
func (i *Inspector) Observe(
	ctx context.Context, endpoints []driver.Endpoint, source api.Source,
) map[driver.EndpointID]Observation {
	sandboxes := i.lookIntoAll(ctx, endpoints, source)
	// The host's links are read last, so they have the host end of every container end that was found, or it was
	// removed meanwhile. In the other order an endpoint that was made in between would seem to lack its host end.
	host, err := i.readHost(ctx, endpoints)
	if err != nil {
		i.log.WithError(err).Warn("live listing: the host's links can't be read")
		return nil
	}
	i.lookAgain(ctx, endpoints, host, sandboxes)
	observed := make(map[driver.EndpointID]Observation, len(endpoints))
	for _, ep := range endpoints {
		observed[ep.ID] = observe(ep, host, sandboxes[ep.Sandbox])
	}
	return observed
}

// observeOne returns what the kernel tells of one endpoint, at a cost that does not depend on how many there are.
func (i *Inspector) observeOne(ctx context.Context, ep driver.Endpoint) (Observation, error) {
	endpoints := []driver.Endpoint{ep}
	sandboxes := i.lookIntoAll(ctx, endpoints, api.Kernel)
	host, err := singleLinks(ctx, endpoints)
	if err != nil {
		return Observation{}, err
	}
	i.lookAgain(ctx, endpoints, host, sandboxes)
	return observe(ep, host, sandboxes[ep.Sandbox]), nil
}

// missingRoutes returns drift for each gateway of the endpoint's, if its sandbox has no default route of that family:
// a route by another gateway may be Docker's. nsproc has to look, since the kernel lists no routes of other namespaces.
func (i *Inspector) missingRoutes(ctx context.Context, ep driver.Endpoint) (missing []api.Drift, err error) {
	if err := i.nsprocs.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer i.nsprocs.Release(1)
	inside, err := i.launcher.List(ctx, ep.Sandbox, protocol.List{Routes: true})
	if err != nil {
		return nil, err
	}
	for _, gateway := range ep.Gateways {
		isDefault := func(r netstate.Route) bool {
			return r.Destination.Bits() == 0 && r.Destination.Addr().Is4() == gateway.Is4()
		}
		if !slices.ContainsFunc(inside.Routes, isDefault) {
			missing = append(missing, newDrift(api.RouteMissing, "default route missing, by %s or any other", gateway))
		}
	}
	return missing, nil
}

// lookAgain has nsproc look into the sandboxes in which the kernel has not shown a container end that must be there.
// The kernel leaves links that do not fit into its answer out of it, without an error. The host end has its carrier
// only while the container end is up, so the container end may well be there; nsproc's answer is always complete.
func (i *Inspector) lookAgain(
	ctx context.Context, endpoints []driver.Endpoint, host hostLinks, sandboxes map[string]contents,
) {
	var lacking []driver.Endpoint
	for _, ep := range endpoints {
		hostEnd, in := host.byName[ep.HostEnd], sandboxes[ep.Sandbox]
		if hostEnd != nil && hostEnd.Carrier && ep.Sandbox != "" && in.source == api.Kernel && in.err == nil &&
			in.peerOf(hostEnd) == nil {
			lacking = append(lacking, ep)
		}
	}
	for sandbox, in := range i.lookIntoAll(ctx, lacking, api.Nsproc) {
		if in.err == nil { // otherwise what the kernel has shown is better than nothing
			sandboxes[sandbox] = in
		}
	}
}

// observe finds the endpoint among the host's links and in what was found in its sandbox.
func observe(ep driver.Endpoint, host hostLinks, in contents) Observation {
	hostEnd := host.byName[ep.HostEnd]
	if hostEnd == nil {
		return Observation{Source: in.source, Err: in.err}
	}
	containerEnd := in.peerOf(hostEnd)
	o := Observation{Source: in.source, Err: in.err, Host: hostEnd, Inside: containerEnd}
	if bridge := host.byIndex[hostEnd.Master]; bridge != nil {
		o.Bridge, o.Down = bridge.Name, !bridge.Up
	}
	return o
}

// contents is what was found in one sandbox.
type contents struct {
	source api.Source
	links  []netstate.Link
	err    error // why the sandbox could not be looked into
}

// peerOf returns the other end of the host's veth end, nil if it is not in the sandbox. Indexes are unique only within
// a namespace, so each end must name the other's.
func (c contents) peerOf(hostEnd *netstate.Link) *netstate.Link {
	for i, l := range c.links {
		if l.Kind == "veth" && l.Peer == hostEnd.Index && l.Index == hostEnd.Peer {
			return &c.links[i]
		}
	}
	return nil
}

// lookIntoAll looks into each of the endpoints' sandboxes once, several at a time. It returns what it found by the
// sandboxes' paths.
func (i *Inspector) lookIntoAll(
	ctx context.Context, endpoints []driver.Endpoint, source api.Source,
) map[string]contents {
	found := map[string]*contents{}
	for _, ep := range endpoints {
		found[ep.Sandbox] = &contents{source: source}
	}
	var group errgroup.Group
	group.SetLimit(parallel())
	for sandbox, in := range found {
		if sandbox == "" {
			continue
		}
		group.Go(func() error {
			*in = i.lookInto(ctx, sandbox, source)
			return nil
		})
	}
	_ = group.Wait() // none of the functions returns an error
	all := make(map[string]contents, len(found))
	for sandbox, in := range found {
		all[sandbox] = *in
	}
	return all
}

// lookInto looks into a sandbox by source, and by nsproc where the kernel does not answer for other namespaces.
func (i *Inspector) lookInto(ctx context.Context, sandbox string, source api.Source) contents {
	if source == api.Nsproc {
		return i.lookWithNsproc(ctx, sandbox)
	}
	if err := i.looks.Acquire(ctx, 1); err != nil {
		return contents{source: api.Kernel, err: fmt.Errorf("wait for other listings: %w", err)}
	}
	snapshot, err := i.kernel.List(ctx, sandbox)
	i.looks.Release(1)
	if errors.Is(err, netnsid.ErrUnsupported) {
		return i.lookWithNsproc(ctx, sandbox)
	}
	if err != nil {
		return contents{source: api.Kernel, err: err}
	}
	return contents{source: api.Kernel, links: snapshot.Links}
}

// lookWithNsproc looks into a sandbox by running nsproc in it.
func (i *Inspector) lookWithNsproc(ctx context.Context, sandbox string) contents {
	if err := i.nsprocs.Acquire(ctx, 1); err != nil {
		return contents{source: api.Nsproc, err: fmt.Errorf("wait for other listings: %w", err)}
	}
	defer i.nsprocs.Release(1)
	snapshot, err := i.launcher.List(ctx, sandbox, protocol.List{})
	if err != nil {
		return contents{source: api.Nsproc, err: err}
	}
	return contents{source: api.Nsproc, links: snapshot.Links}
}
