// SPDX-License-Identifier: Apache-2.0

// Package probe finds out whether the tunnels between hosts carry what containers send, and names what is wrong: a UDP
// port that a firewall blocks, an underlay that large packets don't pass, a network card that spoils the checksums of
// what is inside a tunnel. All of it runs in the host's network namespace.
//
// Frames go through a VXLAN device of their own, which is made as those of the networks are and has a VNI that no
// network gets. There is no address on it, and a packet socket sends and receives: no rule for packets to the host
// decides what arrives inside, and nothing of it gets to the underlay but in VXLAN packets. A host sends requests to
// those that it has networks in common with, UDP and TCP, small and as large as the networks' MTU allows, and leaves
// their checksums to the network card, as containers do. The other one answers each, and says whether its checksum was
// right. So each host knows both directions, without having to believe anybody's clock.
//
// Whoever can send to the port can send what looks like a probe. So only hosts of the cluster are answered, at the
// addresses that the cluster knows, no answer is longer than its request, and no more than a number of frames a second
// are read.
package probe

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// spread is between the first requests to hosts that have come at once.
	spread = 2 * time.Millisecond
	// mostTold is how many hosts Problems has a line for.
	mostTold = 10
)

// Options say who this host is. All but Root, which is that of the process by default, are required.
type Options struct {
	ID      string     // of this host in the cluster
	StateID string     // which the device's alias has
	Local   netip.Addr // VTEP of this host
	Port    uint16     // UDP, to be the same on all hosts
	VNI     uint32     // that no network has
	Root    string     // root directory of the host, for its /proc
	Log     *logrus.Entry
	// Patience is how long nothing has to come from a host until that is told: longer than weave takes to start again
	// there, and than the cluster takes to notice that it does not.
	Patience time.Duration
}

// Host is another host.
type Host struct {
	ID   string
	Name string
	VTEP netip.Addr
	Port uint16 // UDP, of its VXLAN packets; 0: not known
	MTU  int    // of the largest network that both are on, in bytes; 0: it is not asked, only answered
}

// Result is what is known of the way to a host.
type Result struct {
	Since     time.Time     // it has been so since then
	Probed    time.Time     // when a round has ended last
	RoundTrip time.Duration // of a small frame, from process to process; 0: none has come back
	Fault     Fault
	Text      string // the fault for people, and what to do; empty: there is none
}

// Prober sends the probes and answers those of others, while it runs. Its methods may be called from several goroutines
// at once, and none of them waits.
type Prober struct {
	o    Options
	mac  mac.Address
	open func(Options, int) (*device, error)
	kick chan struct{} // has a value when there is something to do

	mu      sync.Mutex
	pace    pace
	mtu     int // that the device is to have; 0: none is needed
	peers   map[string]*peer
	byMAC   map[mac.Address]*peer
	gone    []Host  // whose rows are still in the device's table
	device  *device // nil: there is none
	problem error   // why not
}

// New returns a Prober that knows no hosts.
func New(o Options) *Prober {
	return &Prober{
		o: o, mac: hostMAC(o.ID), open: openDevice, kick: make(chan struct{}, 1),
		pace: usual(o.Patience), peers: map[string]*peer{}, byMAC: map[mac.Address]*peer{},
	}
}

// Set says which other hosts there are, and the MTU of the largest network of the cluster that this one is on; with 0
// nothing is probed and nobody is answered. A host with which networks are now in common is probed at once.
func (p *Prober) Set(mtu int, hosts []Host) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	there := map[string]bool{}
	for _, h := range hosts {
		if !h.VTEP.IsGlobalUnicast() {
			h.MTU = 0
		}
		there[h.ID] = true
		if p.peers[h.ID] == nil {
			p.peers[h.ID] = &peer{mac: hostMAC(h.ID)}
			p.byMAC[hostMAC(h.ID)] = p.peers[h.ID]
		}
		if p.peers[h.ID].update(h, now) {
			now = now.Add(spread)
		}
		mtu = max(mtu, h.MTU)
	}
	for id, pe := range p.peers {
		if !there[id] {
			if !pe.entered.IsZero() {
				p.gone = append(p.gone, pe.Host)
			}
			delete(p.peers, id)
			delete(p.byMAC, pe.mac)
		}
	}
	p.noteTwins()
	p.mtu = mtu
	p.hurry()
}

// noteTwins notes which hosts have the address of another one, or of this one. The caller holds the lock.
func (p *Prober) noteTwins() {
	names := map[netip.Addr][]string{p.o.Local.Unmap(): {"this host"}}
	for _, pe := range p.byName() {
		a := pe.VTEP.Unmap()
		names[a] = append(names[a], pe.Name)
	}
	for _, pe := range p.peers {
		all := names[pe.VTEP.Unmap()]
		pe.twin = ""
		switch {
		case len(all) < 2:
		case all[0] == pe.Name:
			pe.twin = all[1]
		default:
			pe.twin = all[0]
		}
	}
}

// byName returns the other hosts in the order of their names. The caller holds the lock.
func (p *Prober) byName() []*peer {
	return slices.SortedFunc(maps.Values(p.peers), func(a, b *peer) int {
		return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID)
	})
}

// hurry has the next step be looked for.
func (p *Prober) hurry() {
	wait.Signal(p.kick)
}

// Results returns what is known of the hosts that have been probed, by id.
func (p *Prober) Results() map[string]Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[string]Result{}
	for id, pe := range p.peers {
		if pe.MTU > 0 && !pe.result.Probed.IsZero() {
			out[id] = pe.result
		}
	}
	return out
}

// Problems tells what is wrong now, a line for each host; of many hosts it names some.
func (p *Prober) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	if p.problem != nil {
		out = append(out, fmt.Sprintf("tunnels to other hosts are not probed: %v", p.problem))
	}
	faulty := 0
	for _, pe := range p.byName() {
		if pe.MTU == 0 || pe.result.Fault == None {
			continue
		}
		if faulty++; faulty <= mostTold {
			out = append(out, fmt.Sprintf("tunnel to host %s (%s): %s", pe.Name, pe.VTEP, pe.result.Text))
		}
	}
	if faulty > mostTold {
		out = append(out, fmt.Sprintf("tunnels to %d more hosts are faulty: weave hosts", faulty-mostTold))
	}
	return out
}

// isOther reports whether an address can be that of another host.
func isOther(a, local netip.Addr) bool { return a.IsGlobalUnicast() && a.Unmap() != local.Unmap() }
