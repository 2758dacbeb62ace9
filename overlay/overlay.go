// SPDX-License-Identifier: Apache-2.0

// Package overlay is the VXLAN side of a network that spans hosts. All of it runs in the host's network namespace.
//
// Such a network has, on each host, a VXLAN device as one more port of its bridge (Device, PortSettings). Where the
// endpoints of the other hosts are is never learned from frames but entered into the kernel's tables (Entry): so a
// frame goes to the one host that has the MAC, the bridge answers ARP for the remote containers instead of asking all
// hosts, and a broadcast goes to the hosts that have an endpoint on the network and to no others. What is entered is a
// pure function of what the cluster knows (Desired). An Overlay keeps the tables so.
//
// What makes the links is not here. The VXLAN device needs the tc programs that host ends have, if these tag frames: a
// tag is pushed on what comes from the tunnel, and popped from what goes there, so that none is on the wire. And the
// kernel takes entries for IPv6 addresses only while IPv6 is on at the bridge (disable_ipv6 is 0), with or without
// addresses there.
package overlay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/wait"
)

// Network is what an Overlay has to know of a network.
type Network struct {
	Device  string     // name of the VXLAN device
	Bridge  string     // name of the bridge that the device is a port of
	Local   netip.Addr // this host's VTEP
	Remotes []Remote   // the network's endpoints on other hosts
}

// Overlay keeps the kernel's tables as its networks need them, while it runs. Its methods may be called from several
// goroutines at once, and none of them waits for the kernel.
type Overlay struct {
	log  *logrus.Entry
	kick chan struct{} // has a value when there is something to do

	mu       sync.Mutex
	networks map[string]*network
	byName   map[string]*network // by the names of their links
	byIndex  map[int]*network    // by the indexes that these had when they were last looked up
	round    chan struct{}       // closed, and made anew, when a round of programming ends
}

// network is the state of a network. The Overlay's lock holds for all but kernel.
type network struct {
	key          string
	device       string
	bridge       string
	want         Entries                    // never changed, only replaced
	addresses    map[netip.Addr]mac.Address // of want, made when they are asked for
	links        links
	dirty        bool    // there is something to do
	changed      bool    // want may differ from what is in the kernel
	stale        bool    // kernel may differ from what is in the kernel, which has to be looked at
	lost         []Entry // rows of want that somebody has removed from the kernel
	gone         bool    // to be forgotten once its entries are out of the kernel
	problem      string  // why it isn't programmed; empty: it is, or will be at once
	failed       bool    // to be tried again, since no event tells when it is worth it
	isProgrammed bool

	kernel *tables // as of the last round; nil: there was none yet. It belongs to the goroutine of Run
}

// New returns an Overlay without networks.
func New(log *logrus.Entry) *Overlay {
	return &Overlay{
		log: log, kick: make(chan struct{}, 1), networks: map[string]*network{}, byName: map[string]*network{},
		byIndex: map[int]*network{}, round: make(chan struct{}),
	}
}

// Set says what the network with that key needs from now on. It is programmed soon after, or when its links are there.
func (o *Overlay) Set(key string, n Network) {
	want := Desired(n.Local, n.Remotes)
	o.mu.Lock()
	defer o.mu.Unlock()
	nw := o.networks[key]
	if nw == nil || nw.device != n.Device || nw.bridge != n.Bridge {
		if nw != nil {
			o.forget(nw)
		}
		nw = &network{key: key, device: n.Device, bridge: n.Bridge, stale: true}
		o.networks[key], o.byName[n.Device], o.byName[n.Bridge] = nw, nw, nw
	}
	nw.want, nw.addresses, nw.changed, nw.gone = want, nil, true, false
	o.touch(nw)
}

// Remove forgets a network. Its entries are removed, if its links are still there.
func (o *Overlay) Remove(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if nw := o.networks[key]; nw != nil {
		nw.want, nw.addresses, nw.changed, nw.gone = Entries{}, nil, true, true
		o.touch(nw)
	}
}

// Resync compares all networks in full with what is in the kernel.
func (o *Overlay) Resync() { o.distrust(func(*network) bool { return true }) }

// Problems tells what can't be programmed now, a line for each network that has a problem.
func (o *Overlay) Problems() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []string
	for _, key := range slices.Sorted(maps.Keys(o.networks)) {
		if nw := o.networks[key]; nw.problem != "" {
			out = append(out, fmt.Sprintf("network %s between hosts: %s", key, nw.problem))
		}
	}
	return out
}

// Await waits until the network is programmed as it was last set, or forgotten after its removal, or returns why it is
// not when ctx ends.
func (o *Overlay) Await(ctx context.Context, key string) error {
	for {
		o.mu.Lock()
		nw, round := o.networks[key], o.round
		done, problem := nw == nil || nw.isProgrammed && !nw.gone, ""
		if nw != nil {
			problem = nw.problem
		}
		o.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-round:
		case <-ctx.Done():
			if problem == "" {
				return ctx.Err()
			}
			return fmt.Errorf("network %s: %w", key, errors.Join(ctx.Err(), errors.New(problem)))
		}
	}
}

// distrust has the networks that ok chooses be compared in full.
func (o *Overlay) distrust(ok func(*network) bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, nw := range o.networks {
		if ok(nw) {
			nw.stale = true
			o.touch(nw)
		}
	}
}

// touch has a network be programmed in the next round. The caller has the lock.
func (o *Overlay) touch(nw *network) {
	nw.dirty, nw.isProgrammed = true, false
	o.hurry()
}

// hurry has a round be soon.
func (o *Overlay) hurry() {
	wait.Signal(o.kick)
}

// forget forgets a network. The caller has the lock.
func (o *Overlay) forget(nw *network) {
	isIt := func(other *network) bool { return other == nw }
	maps.DeleteFunc(o.networks, func(_ string, other *network) bool { return isIt(other) })
	maps.DeleteFunc(o.byName, func(_ string, other *network) bool { return isIt(other) })
	maps.DeleteFunc(o.byIndex, func(_ int, other *network) bool { return isIt(other) })
}
