// SPDX-License-Identifier: Apache-2.0

// Package firewall lets the frames of weave's networks pass the machine's packet filter.
//
// Docker sets the policy of the FORWARD chain to DROP, and with br_netfilter loaded even a frame between two ports of
// one bridge passes that chain. So each bridge has one rule there, `-i BRIDGE -o BRIDGE -j ACCEPT`, for IPv4 and for
// IPv6, after the user's own rules (DOCKER-USER) and before Docker's. The rules are written with the back end of
// iptables (nft or legacy) that holds Docker's chains. A comment in each rule has the ids of the state and of the
// network: by it weave recognises its rules, and replaces those that another state made for a network that is now this
// state's.
//
// Set says which rules there have to be, and Run puts them back when somebody removes or displaces them.
//
// All of it runs in the host's namespaces: commands, netlink and /proc are those of the calling process.
package firewall

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"
)

// Options are what New needs.
type Options struct {
	StateID string        // the state's own id (store.Identity); rules carry it in a comment
	Log     *logrus.Entry // gets changes and repairs
}

// Firewall keeps the rules of one state. Its methods may be called from several goroutines at once.
type Firewall struct {
	stateID string
	log     *logrus.Entry
	tables  []*table
	changed chan struct{} // holds a token when Run has to look at the tables soon

	mu      sync.Mutex // guards what follows; never held while anything waits
	target  *target    // what the tables should hold; nil before the first Set
	problem error      // why they may not hold it; nil: the last look found or made all rules in place

	working     *semaphore.Weighted // held while the tables are looked at and written; guards what follows
	inUse       map[string]bool     // back ends that hold Docker's chains; while none does, those that did last
	legacySeen  bool                // the kernel had a legacy table at the last look
	legacyWatch bool                // legacy tables have to be polled, since the kernel sends no events for them
}

// target is what the tables should hold. It is never changed, only replaced.
type target struct {
	rules map[string]string // bridge to network id
	owner owner             // says which other rules are removed
}

// New finds the machine's iptables commands; it changes nothing. Without any it returns exec.ErrNotFound.
func New(o Options) (*Firewall, error) {
	if !safeArgument.MatchString(o.StateID) {
		return nil, fmt.Errorf("state id %q: %s", o.StateID, safeArgumentHint)
	}
	tables, system, err := findTables()
	if err != nil {
		return nil, err
	}
	f := &Firewall{
		stateID: o.StateID,
		log:     o.Log,
		tables:  tables,
		changed: make(chan struct{}, 1),
		working: semaphore.NewWeighted(1),
		inUse:   map[string]bool{system: true},
	}
	if !slices.ContainsFunc(tables, func(t *table) bool { return t.ipv6 }) {
		f.log.Warn("no ip6tables command: IPv6 may not pass between containers of one network")
	}
	return f, nil
}

// Set makes wanted (bridge to network id) all the rules of this state, in both back ends, and what Run keeps from then
// on. It also removes rules that another state made for a network that is wanted, or was until this call. Before the
// first Set, rules that an earlier process left behind stay as they are.
//
// An invalid name changes nothing. After any other error wanted remains what the tables should hold: Run tries again. A
// caller that gives up on a new network calls Set without it.
func (f *Firewall) Set(ctx context.Context, wanted map[string]string) error {
	for bridge, networkID := range wanted {
		if err := validate(bridge, networkID); err != nil {
			return err
		}
	}
	level := logrus.DebugLevel
	if first := f.setTarget(wanted); first {
		level = logrus.InfoLevel // it puts right what happened while no weave ran
	}
	if err := f.sync(ctx, level); err != nil {
		notify(f.changed)
		return fmt.Errorf("set firewall rules: %w", err)
	}
	return nil
}

// Problem returns why rules may be missing now: tables could not be read or written. It is nil when the last look found
// or made all rules in place, and before the first Set. It never waits.
func (f *Firewall) Problem() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.problem
}

// setTarget replaces the target, and reports whether it is the first one. Rules of the networks that were wanted before
// still belong to this state, until a look has found or made them gone.
func (f *Firewall) setTarget(wanted map[string]string) (first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	first = f.target == nil
	t := newTarget(f.stateID, maps.Clone(wanted))
	if !first {
		maps.Copy(t.owner.networks, f.target.owner.networks)
	}
	f.target = t
	return first
}

func newTarget(stateID string, rules map[string]string) *target {
	t := &target{rules: rules, owner: owner{stateID: stateID, networks: map[string]bool{}}}
	for _, networkID := range rules {
		t.owner.networks[networkID] = true
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
		f.target = newTarget(f.stateID, t.rules) // without the networks that were wanted before
	}
}

// notify puts a token into c if there is none.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// safeArgument matches what may stand on an iptables command line and in a rule's comment: no leading dash, no wildcard
// (iptables takes a trailing + for one), no space, quote or line break, and no colon, which separates the comment's
// ids.
var safeArgument = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

const safeArgumentHint = "want at most 64 of letters, digits, '_', '.' and '-', not beginning with '.' or '-'"

func validate(bridge, networkID string) error {
	if !safeArgument.MatchString(bridge) {
		return fmt.Errorf("bridge %q: %s", bridge, safeArgumentHint)
	}
	if !safeArgument.MatchString(networkID) {
		return fmt.Errorf("bridge %s: network id %q: %s", bridge, networkID, safeArgumentHint)
	}
	return nil
}
