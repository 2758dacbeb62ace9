// Package driver implements Docker's NetworkDriver: networks, each with a bridge of its own, and endpoints, each with a
// veth pair. All of it runs in the host's network namespace; what has to happen in a container's is left to nsproc.
package driver

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/store"
)

// Options are what a Driver works with. All but Endpoints and Step are required.
type Options struct {
	Store     store.Store // of networks
	Endpoints store.Store // of endpoints, which live no longer than the host is up; nil: Store
	StateID   string      // the state's own id, which the aliases of its kernel objects carry
	Launcher  *launch.Launcher
	Log       *logrus.Entry
	MTU       int // bytes; of networks that are made without the option

	// Step is called before each change of the kernel or of the store, with its name. Tests end the process there.
	Step func(name string)
}

// Driver keeps networks and endpoints. Its methods may be called from several goroutines at once.
type Driver struct {
	store         store.Store // of networks
	endpointStore store.Store
	stateID       string
	launcher      *launch.Launcher
	firewall      *firewall.Firewall
	log           *logrus.Entry
	mtu           int
	step          func(string)
	links         links

	locks    keylock  // requests for one network come one after the other
	removals removals // veth pairs on their way out

	mu        sync.RWMutex // guards what is below; never held while anything waits
	networks  map[NetworkID]Network
	endpoints map[EndpointID]Endpoint
	hostEnds  map[string]EndpointID
	engine    time.Time // when the present engine began to call; zero: before weave started

	departures []departure // the recent ones
}

// New checks and wires; Reconcile must have returned before Docker's calls are made.
func New(o Options) (*Driver, error) {
	if o.Store == nil || o.StateID == "" || o.Launcher == nil || o.Log == nil {
		return nil, fmt.Errorf("%w: driver needs a store, its id, a launcher and a log", ErrInvalid)
	}
	if o.MTU < MinMTU || o.MTU > MaxMTU {
		return nil, fmt.Errorf("%w: mtu %d: want %d..%d", ErrInvalid, o.MTU, MinMTU, MaxMTU)
	}
	fw, err := firewall.New(firewall.Options{StateID: o.StateID, Log: o.Log})
	if err != nil {
		return nil, err
	}
	if o.Endpoints == nil {
		o.Endpoints = o.Store
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	return &Driver{
		store: o.Store, endpointStore: o.Endpoints, stateID: o.StateID, launcher: o.Launcher, firewall: fw, log: o.Log, mtu: o.MTU,
		step: o.Step, links: links{o.Step, string(o.Launcher.Sandboxes())},
		networks: map[NetworkID]Network{}, endpoints: map[EndpointID]Endpoint{}, hostEnds: map[string]EndpointID{},
	}, nil
}

// Networks returns the tracked networks, oldest first.
func (d *Driver) Networks() []Network {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]Network, 0, len(d.networks))
	for _, nw := range d.networks {
		out = append(out, nw)
	}
	slices.SortFunc(out, func(a, b Network) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Endpoints returns the tracked endpoints, oldest first.
func (d *Driver) Endpoints() []Endpoint {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]Endpoint, 0, len(d.endpoints))
	for _, ep := range d.endpoints {
		out = append(out, ep)
	}
	slices.SortFunc(out, func(a, b Endpoint) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// EngineStarted notes that an engine begins to call: what an earlier one had under way it will not finish.
func (d *Driver) EngineStarted() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.engine = time.Now()
}

// starting reports whether the engine may be starting a container with the endpoint.
func (d *Driver) starting(ep Endpoint) bool { return ep.State != Up && d.recent(ep.Created) }

// recent reports whether the engine may not have done yet what follows a call that it made then.
func (d *Driver) recent(t time.Time) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.recentLocked(t)
}

func (d *Driver) recentLocked(t time.Time) bool {
	return time.Since(t) < startTime && t.After(d.engine)
}

// Close waits for the veth pairs that are on their way out. No other method may run or be called then.
func (d *Driver) Close() error {
	d.removals.wait()
	return nil
}

// Run does what the kernel asks for until ctx ends: it follows the carrier of the host ends and keeps the firewall rules
// in place.
func (d *Driver) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, 2)
	go func() { errs <- d.firewall.Run(ctx) }()
	go func() { errs <- d.watchLinks(ctx) }()
	err := <-errs
	cancel()
	return cmp.Or(err, <-errs)
}

func (d *Driver) network(id NetworkID) (Network, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	nw, ok := d.networks[id]
	return nw, ok
}

func (d *Driver) endpoint(id EndpointID) (Endpoint, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	ep, ok := d.endpoints[id]
	return ep, ok
}

// endpointsOf returns the tracked endpoints of a network, in no order.
func (d *Driver) endpointsOf(id NetworkID) []Endpoint {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var out []Endpoint
	for _, ep := range d.endpoints {
		if ep.Network == id {
			out = append(out, ep)
		}
	}
	return out
}

func (d *Driver) track(ep Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endpoints[ep.ID] = ep
	d.hostEnds[ep.HostEnd] = ep.ID
}

func (d *Driver) untrack(ep Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.endpoints, ep.ID)
	delete(d.hostEnds, ep.HostEnd)
}

func parseHardwareAddr(mac string) (net.HardwareAddr, error) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return nil, fmt.Errorf("%w: MAC %q: %w", ErrInvalid, mac, err)
	}
	return hw, nil
}
