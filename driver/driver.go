// SPDX-License-Identifier: Apache-2.0

// Package driver implements Docker's network driver: networks, each with a bridge of its own, and endpoints, each with
// a veth pair. All of it runs in the host's network namespace; what has to be done in a container's is done by nsproc.
package driver

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/internal/keylock"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netnsid"
	"github.com/weaveplugin/weave/store"
)

// Options are what a Driver works with. Required are Store, StateID, Launcher, Log and MTU.
type Options struct {
	Store     store.Store // of networks
	Endpoints store.Store // of endpoints, which a reboot ends; nil: Store
	StateID   string      // id of the state, which the aliases of its links contain
	Launcher  *launch.Launcher
	Log       *logrus.Entry
	Programs  *tc.Programs  // nil: networks are without
	MTU       int           // bytes; of networks that are made without the option
	Firewall  firewall.Mode // for which protocols there are firewall rules; empty: Auto
	Accept    firewall.Mark // what has it may enter networks with gateways of their own

	// Kernel looks into sandboxes without a process there. Nil: nobody does, and an address that a living endpoint was
	// made with is in use. The caller closes it after the Driver.
	Kernel *netnsid.Querier

	// Cluster is what hosts share, which Tunnel is needed for; nil: every network is this host's alone.
	Cluster *cluster.Cluster
	Tunnel  Tunnel

	// DockersPools returns what Docker takes subnets of its own networks from; nil: nothing that matters.
	DockersPools func() []netip.Prefix

	// Step is called before each change of the kernel or of the store, with its name. Tests end the process there.
	Step func(name string)
}

// Driver keeps networks and endpoints. Its methods may be called from several goroutines at once.
type Driver struct {
	store         store.Store // of networks
	endpointStore store.Store
	stateID       string
	launcher      *launch.Launcher
	kernel        *netnsid.Querier // nil: there is none
	firewall      *firewall.Firewall
	firewallMode  firewall.Mode
	log           *logrus.Entry
	mtu           int
	dockersPools  func() []netip.Prefix
	cluster       *cluster.Cluster // nil: there is none
	tunnel        Tunnel
	step          func(string)
	links         links

	forwarding     *semaphore.Weighted // held while the firewall's rules are set
	ruled          atomic.Bool         // they have been set since weave's start
	locks          keylock.Locks[NetworkID]
	tracked        *tracker
	left           leftovers
	removals       removals
	docker         *dockerRun
	deleted        deletedEndpoints
	changed        *changes      // links that somebody may have changed
	waysOutChanged chan struct{} // something that the limiter looks at
	contests       contests
	history        history
}

// New checks the options and makes a Driver. Reconcile must have returned before Docker's calls are made.
func New(o Options) (*Driver, error) {
	if o.Store == nil || o.StateID == "" || o.Launcher == nil || o.Log == nil {
		return nil, fmt.Errorf("%w: driver needs a store, its id, a launcher and a log", ErrInvalid)
	}
	if o.MTU < MinMTU || o.MTU > MaxMTU {
		return nil, fmt.Errorf("%w: mtu %d: want %d..%d", ErrInvalid, o.MTU, MinMTU, MaxMTU)
	}
	if o.Firewall == "" {
		o.Firewall = firewall.Auto
	}
	root := string(o.Launcher.Sandboxes())
	fw, err := firewall.New(firewall.Options{
		StateID: o.StateID, Mode: o.Firewall, Accept: o.Accept, BusPath: filepath.Join("/", root, busPath),
		Living: livingStates, Log: o.Log,
	})
	if err != nil {
		return nil, err
	}
	if o.Endpoints == nil {
		o.Endpoints = o.Store
	}
	if o.DockersPools == nil {
		o.DockersPools = func() []netip.Prefix { return nil }
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	return &Driver{
		store: o.Store, endpointStore: o.Endpoints, stateID: o.StateID, launcher: o.Launcher, kernel: o.Kernel,
		firewall: fw, log: o.Log, mtu: o.MTU, dockersPools: o.DockersPools, firewallMode: o.Firewall, step: o.Step,
		links:   links{step: o.Step, root: root, tc: o.Programs, made: &indexes{byName: map[string]int{}}},
		cluster: o.Cluster, tunnel: o.Tunnel, forwarding: semaphore.NewWeighted(1),
		tracked: newTracker(), docker: new(dockerRun),
		changed: newChanges(), waysOutChanged: make(chan struct{}, 1),
		contests: contests{list: map[propertyOf]contest{}},
		history:  history{told: map[NetworkID][]string{}},
	}, nil
}

// Networks returns the tracked networks, oldest first.
func (d *Driver) Networks() []Network { return d.tracked.Networks() }

// Endpoints returns the tracked endpoints, oldest first.
func (d *Driver) Endpoints() []Endpoint { return d.tracked.Endpoints() }

// ByHostEnd returns the endpoint whose host end has this name, with its network.
func (d *Driver) ByHostEnd(name string) (Network, Endpoint, bool) { return d.tracked.byHostEnd(name) }

// Subscribe returns a subscription to every change of networks and endpoints from now on, and what is tracked now. The
// buffer is how many changes are kept for a subscriber that is busy; a slower one gets ErrMissed.
func (d *Driver) Subscribe(buffer int) (*Subscription, Snapshot) { return d.tracked.Subscribe(buffer) }

// Close waits for the veth pairs that are being removed. No other method may run or be called then.
func (d *Driver) Close() error {
	d.removals.close()
	return nil
}

// Run follows the carrier of the host ends, has sandboxes configured and keeps links and the firewall's rules as weave
// makes them, until ctx ends.
func (d *Driver) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { newConfigurator(d).run(ctx) })
	group.Go(func() { (&limiter{d: d}).run(ctx) })
	group.Go(func() { d.watchLinks(ctx) })
	group.Go(func() { (&keeper{d, map[NetworkID]time.Time{}}).run(ctx) })
	group.Go(func() { d.followHosts(ctx) })
	err := d.firewall.Run(ctx)
	cancel()
	return err
}

// lock waits until no other request on the network is at work. The function that it returns lets the next one work.
func (d *Driver) lock(ctx context.Context, id NetworkID) (unlock func(), err error) {
	unlock, err = d.locks.Lock(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("wait for other requests on network %s: %w", id, err)
	}
	return unlock, nil
}

// logOf returns the log with the endpoint's fields.
func (d *Driver) logOf(ep Endpoint) *logrus.Entry {
	return d.log.WithField("network", ep.Network).WithField("endpoint", ep.ID)
}
