// SPDX-License-Identifier: Apache-2.0

// Package firewall lets the frames of weave's networks pass the machine's packet filter, and keeps them from the host.
//
// With br_netfilter loaded, a frame between two ports of one bridge passes the host's tables, as if the host routed it:
// Docker's policy DROP in FORWARD, rules that drop in raw PREROUTING, rules that translate addresses. So there are
// rules of weave's in each of these places:
//
//   - FORWARD of iptables, nft and legacy, accepts what is bridged, after the user's own rules and before Docker's. A
//     frame passes all of the kernel's tables, so the rule is in each that exists; where it is not needed it does no
//     harm;
//   - PREROUTING of the table raw accepts what comes from weave's own bridges, before the rules with which Docker keeps
//     others from its containers: they match by address, and networks may have the same ones;
//   - a table of weave's own, of nftables, takes frames from all translation of addresses, and drops what would be
//     delivered to the host from weave's own bridges on which the host has no address, and VXLAN packets of networks
//     between hosts that are from nobody of the cluster (see Tunnel);
//   - firewalld, where it runs, has weave's own bridges in a zone that accepts (package firewalld).
//
// A bridge that has the gateway of its network is a member of the host's. FORWARD accepts what leaves it and the
// answers, behind jumps to the chains in which Docker keeps others out. The table of weave's own translates what leaves
// to the host's address, and drops what enters and is no answer, and what is from none of the bridge's subnets.
//
// All bridges of a kind that weave names share their rules, so that many networks cost no more than one, but for those
// about subnets. The comment of a rule has the id of the state that made it and, if the rule is for one bridge only,
// that of the network.
//
// Set says which bridges there are, and Run puts rules back when somebody removes or displaces them.
//
// All of it runs in the host's namespaces: commands, netlink and /proc are those of the calling process.
package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/driver/firewall/firewalld"
	"github.com/weaveplugin/weave/internal/wait"
)

// Options are what New needs.
type Options struct {
	StateID string        // the state's own id (store.Identity); rules carry it in a comment
	Mode    Mode          // for which protocols there are rules
	Accept  Mark          // what has it may enter networks with gateways
	BusPath string        // path of the socket of the system's D-Bus, for firewalld
	Log     *logrus.Entry // gets changes and repairs

	// Living returns the ids of the states that have links on this host: rules of any other may be removed. Nil: no
	// rule of another state is known to be left over.
	Living func() (map[string]bool, error)
}

// Firewall keeps the rules of one state. Its methods may be called from several goroutines at once.
type Firewall struct {
	stateID  string
	mode     Mode
	accept   Mark
	log      *logrus.Entry
	living   func() (map[string]bool, error)
	nft      *nft
	backends []backend // nft among them
	zone     *firewalld.Zone
	changed  chan struct{} // holds a token when Run has to look at the tables soon

	mu      sync.Mutex // guards what follows; never held while anything waits
	target  *target    // what the tables should hold; nil before the first Set
	tunnel  Tunnel     // of the target, or of the first one that will be
	problem error      // why they may not hold it; nil: the last look found or made all rules in place

	working    *semaphore.Weighted // held while the tables are looked at and written; guards what follows
	legacySeen bool                // the kernel had legacy tables at the last look

	listing *semaphore.Weighted // held by List; not working, so that Set never waits for who only looks
}

// target is what the tables should hold. It is never changed, only replaced.
type target struct {
	bridges []Bridge
	tunnel  Tunnel
	owner   owner // says which other rules are removed
}

// isEmpty reports whether no rules are wanted.
func (t *target) isEmpty() bool { return len(t.bridges) == 0 && t.tunnel.Port == 0 }

// New prepares the firewall; it changes nothing.
func New(o Options) (*Firewall, error) {
	if !safeArgument.MatchString(o.StateID) {
		return nil, fmt.Errorf("state id %q: %s", o.StateID, safeArgumentHint)
	}
	f := &Firewall{
		stateID: o.StateID,
		mode:    o.Mode,
		accept:  o.Accept,
		log:     o.Log,
		living:  o.Living,
		nft:     &nft{own: ownTable(o.StateID)},
		zone:    firewalld.New(firewalld.Options{BusPath: o.BusPath, Log: o.Log}),
		changed: make(chan struct{}, 1),
		working: semaphore.NewWeighted(1),
		listing: semaphore.NewWeighted(1),
	}
	f.backends = append(f.backends, f.nft)
	for _, v := range families {
		f.backends = append(f.backends, findLegacy(v))
	}
	return f, nil
}

// Set makes these bridges all that this state has rules for, and what Run keeps from then on. It also removes rules
// that another state made for a network that is among them, or was until this call, and those of states that have
// nothing on this host any more. Before the first Set, rules that an earlier process left behind stay as they are.
//
// An invalid name changes nothing. After any other error these bridges remain what the tables should have rules for:
// Run tries again. A caller that gives up on a new network calls Set without it.
func (f *Firewall) Set(ctx context.Context, bridges []Bridge) error {
	for _, b := range bridges {
		if err := b.validate(); err != nil {
			return err
		}
	}
	level := logrus.DebugLevel
	if first := f.setTarget(bridges); first {
		level = logrus.InfoLevel // it puts right what happened while no weave ran
	}
	zoned, withIPv6 := f.zoned(bridges)
	f.zone.Set(ctx, zoned, withIPv6)
	if err := f.sync(ctx, level); err != nil {
		wait.Signal(f.changed)
		return fmt.Errorf("set firewall rules: %w", err)
	}
	return nil
}

// zoned returns the bridges that firewalld's zone gets, those of weave's own, and whether any has IPv6. Which zone a
// bridge of the user's is in is the user's choice.
func (f *Firewall) zoned(bridges []Bridge) (names []string, withIPv6 bool) {
	for _, b := range bridges {
		if !b.Foreign && f.mode != Off {
			names = append(names, b.Name)
			withIPv6 = withIPv6 || b.IPv6
		}
	}
	return names, withIPv6
}

// Problem returns why rules may be missing now: tables could not be read or written. It is nil when the last look found
// or made all rules in place, and before the first Set. It never waits.
func (f *Firewall) Problem() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.problem, f.zone.Problem())
}

// setTarget replaces the target, and reports whether it is the first one. Rules of the networks that were wanted before
// still belong to this state, until a look has found or made them gone.
func (f *Firewall) setTarget(bridges []Bridge) (first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first = f.target == nil
	t := newTarget(f.stateID, slices.Clone(bridges), f.tunnel)
	if !first {
		maps.Copy(t.owner.networks, f.target.owner.networks)
	}
	f.target = t
	return first
}

func newTarget(stateID string, bridges []Bridge, tunnel Tunnel) *target {
	t := &target{bridges: bridges, tunnel: tunnel, owner: owner{stateID: stateID, networks: map[string]bool{}}}
	for _, b := range bridges {
		t.owner.networks[b.NetworkID] = true
	}
	return t
}

func (f *Firewall) currentTarget() *target {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.target
}

// record keeps how a look at the tables ended. It keeps nothing when the target has been replaced meanwhile: whoever
// did that looks at them next.
func (f *Firewall) record(t *target, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.target != t {
		return
	}
	f.problem = err
	if err == nil {
		f.target = newTarget(f.stateID, t.bridges, t.tunnel) // without the networks that were wanted before
	}
}
