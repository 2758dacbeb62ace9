// SPDX-License-Identifier: Apache-2.0

// Package clustersync tells the cluster which endpoints this host has, and the kernel, by the package overlay, which
// there are on other hosts, as it tells the containers here, by the package names, and the prober, which probes the
// hosts that these are on. It runs in the host's network namespace.
package clustersync

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/problems"
	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/names"
	"github.com/weaveplugin/weave/overlay"
	"github.com/weaveplugin/weave/overlay/probe"
)

const (
	// feedBuffer is how many changes of the driver's are kept meanwhile; when more come, all is read again.
	feedBuffer = 64
	// hostsPause is the time between two looks at which hosts are to be probed, for which all endpoints of the networks
	// that this host is on are counted.
	hostsPause = time.Second
)

// Names knows the names of containers.
type Names interface {
	// Container returns the container that an endpoint belongs to; empty: not known.
	Container(endpoint string) (id, name string)
	// Aliases returns the names besides the container's that the endpoint has on its network.
	Aliases(endpoint string) []string
	// NetworkName returns what Docker calls the network of this id; empty: not known.
	NetworkName(id string) string
	// Updated has a value when the names may be others than when it was taken.
	Updated() <-chan struct{}
}

// Options are what a Sync works with. All but Names are required.
type Options struct {
	Driver  *driver.Driver
	Cluster *cluster.Cluster
	Overlay *overlay.Overlay
	Answers *names.Server // answers containers that ask for names
	Prober  *probe.Prober
	Names   Names // nil: containers have no names for other hosts
	Tunnel  driver.Tunnel
	// Patience is how long the endpoints are not told at the start while Names can't be read. etcd has those of before
	// meanwhile, with their names, until the lease of before runs out.
	Patience time.Duration
	Log      *logrus.Entry
}

// Sync keeps the cluster and the kernel informed.
type Sync struct {
	o Options

	// mu is held from reading what is to be told until it is told: several goroutines tell, and what was read earlier
	// must not be told last.
	mu    sync.Mutex
	here  []cluster.Endpoint // what the cluster was told last
	named bool               // names are known, or are not waited for any more

	published chan struct{} // has a value when here may be another one than when it was taken
	hosts     chan struct{} // has a value when other hosts may have to be probed than those that are
	unclaimed problems.List // addresses of endpoints

	twice     map[string][]string // what is wrong with MACs, by network: see twice.go
	twiceTold problems.List       // the same of all networks
}

// New returns a Sync.
func New(o Options) *Sync {
	return &Sync{o: o, named: o.Names == nil, published: make(chan struct{}, 1), hosts: make(chan struct{}, 1),
		twice: map[string][]string{}}
}

// Run works until ctx ends.
func (s *Sync) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.o.Cluster.Run(ctx) })
	group.Go(func() error { return s.o.Overlay.Run(ctx) })
	group.Go(func() error { return s.o.Answers.Run(ctx) })
	group.Go(func() error { return s.o.Prober.Run(ctx) })
	group.Go(func() error { s.followDriver(ctx); return nil })
	group.Go(func() error { s.followNames(ctx); return nil })
	group.Go(func() error { s.followCluster(ctx); return nil })
	group.Go(func() error { s.followHosts(ctx); return nil })
	group.Go(func() error { s.keepClaims(ctx); return nil })
	return group.Wait()
}

// followDriver tells the cluster of this host's endpoints, again after each change.
func (s *Sync) followDriver(ctx context.Context) {
	subscription, _ := s.o.Driver.Subscribe(feedBuffer)
	defer subscription.Close()
	s.tellAll(s.o.Driver.Networks())
	for {
		change, err := subscription.Next(ctx)
		switch {
		case errors.Is(err, driver.ErrMissed):
			s.tellAll(subscription.Resync().Networks)
		case err != nil:
			return
		case change.Network.Cluster != "":
			s.program(change.Network.Cluster)
			wait.Signal(s.hosts)
		default:
			s.publish()
		}
	}
}

// tellAll tells the kernel and the cluster what they may not have heard.
func (s *Sync) tellAll(networks []driver.Network) {
	for _, nw := range networks {
		s.program(nw.Cluster)
	}
	s.publish()
	wait.Signal(s.hosts)
}

// followNames tells the cluster of names that have become known.
func (s *Sync) followNames(ctx context.Context) {
	if s.o.Names == nil {
		return
	}
	patience := time.NewTimer(s.o.Patience)
	defer patience.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.o.Names.Updated():
		case <-patience.C:
		}
		s.mu.Lock()
		s.named = true
		s.mu.Unlock()
		s.publish()
	}
}

// publish tells the cluster which endpoints this host has.
func (s *Sync) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	networks := map[driver.NetworkID]names.Attachment{}
	for _, nw := range s.o.Driver.Networks() {
		if nw.Cluster != "" {
			networks[nw.ID] = s.attachment(nw)
		}
	}
	var out []cluster.Endpoint
	sandboxes := map[string][]names.Attachment{}
	for _, ep := range s.o.Driver.Endpoints() {
		network, ok := networks[ep.Network]
		if !ok || ep.Sandbox == "" {
			continue
		}
		e := cluster.Endpoint{ID: string(ep.ID), Network: network.Network, MAC: ep.MAC, Addresses: ep.Addresses}
		if s.o.Names != nil {
			e.ContainerID, e.ContainerName = s.o.Names.Container(e.ID)
			e.Names = s.o.Names.Aliases(e.ID)
		}
		out = append(out, e)
		if ep.State() == driver.Up { // its sandbox is there, and so is Docker's resolver
			sandboxes[ep.Sandbox] = append(sandboxes[ep.Sandbox], network)
		}
	}
	s.o.Answers.SetSandboxes(sandboxes)
	out = s.withoutLost(out)
	changed := changedNetworks(s.here, out)
	s.here = out
	if s.named {
		s.o.Cluster.SetEndpoints(out)
	}
	for network := range changed {
		s.tellNames(network)
		s.lookForTwins(network)
	}
	if len(changed) > 0 {
		wait.Signal(s.published)
	}
}

// changedNetworks returns the networks whose endpoints on this host are other ones than before.
func changedNetworks(before, now []cluster.Endpoint) map[string]bool {
	was := make(map[string]cluster.Endpoint, len(before))
	for _, ep := range before {
		was[ep.ID] = ep
	}
	changed := map[string]bool{}
	for _, ep := range now {
		old, ok := was[ep.ID]
		if delete(was, ep.ID); !ok || !ep.Equal(old) {
			changed[ep.Network] = true
		}
	}
	for _, ep := range was {
		changed[ep.Network] = true
	}
	return changed
}

// attachment returns how containers of a network of the cluster know it.
func (s *Sync) attachment(nw driver.Network) names.Attachment {
	a := names.Attachment{Network: nw.Cluster}
	if s.o.Names != nil {
		a.Name = s.o.Names.NetworkName(string(nw.ID))
	}
	return a
}

// tellNames tells which names there are on a network of the cluster. The caller holds the lock.
func (s *Sync) tellNames(network string) {
	var all []names.Endpoint
	add := func(ep cluster.Endpoint, here bool) {
		known := names.Endpoint{Names: cluster.ValidNames(append([]string{ep.ContainerName}, ep.Names...)), Here: here}
		for _, a := range ep.Addresses {
			known.Addresses = append(known.Addresses, a.Addr())
		}
		all = append(all, known)
	}
	remotes, _ := s.o.Cluster.Remotes(network)
	for _, r := range remotes {
		add(r.Endpoint, false)
	}
	for _, ep := range s.here {
		if ep.Network == network {
			add(ep, true)
		}
	}
	s.o.Answers.SetNetwork(network, all)
}

// followCluster tells the kernel of the endpoints on other hosts, again after each change.
func (s *Sync) followCluster(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.o.Cluster.Changed():
			for _, network := range s.o.Cluster.TakeChanged() {
				s.program(network)
			}
			wait.Signal(s.hosts)
		}
	}
}

// followHosts has those hosts be probed that this one has networks in common with, again after each change.
func (s *Sync) followHosts(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hosts:
			s.tellHosts()
			wait.For(ctx, hostsPause)
		}
	}
}

// tellHosts tells the prober which hosts there are.
func (s *Sync) tellHosts() {
	mtu := 0
	var hosts []probe.Host
	for _, h := range s.o.Cluster.Hosts() {
		switch {
		case h.ID == s.o.Cluster.Self().ID:
			mtu = h.MTU
		case h.Present:
			hosts = append(hosts, probe.Host{ID: h.ID, Name: h.Name, VTEP: h.VTEP, Port: h.Port, MTU: h.MTU})
		}
	}
	s.o.Prober.Set(mtu, hosts)
}

// program has the kernel's tables made for a network of the cluster, as far as this host is on it. As long as etcd has
// not been read after a start they stay as they are.
func (s *Sync) program(network string) {
	if network == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	nw, ok := s.o.Driver.NetworkOf(network)
	if !ok || nw.VNI == 0 {
		s.o.Overlay.Remove(network)
		s.o.Answers.SetNetwork(network, nil)
		s.setTwins(network, nil)
		return
	}
	remotes, seen := s.o.Cluster.Remotes(network)
	if !seen {
		return
	}
	s.tellNames(network)
	s.lookForTwins(network)
	n := overlay.Network{Device: nw.Device(), Bridge: nw.Bridge, Local: s.o.Tunnel.Local}
	n.Remotes = withoutOwn(network, remotes, s.here)
	s.o.Overlay.Set(network, n)
}
