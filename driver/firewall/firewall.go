// Package firewall lets the frames of weave's networks through the machine's packet filter.
//
// The Engine sets the policy of the FORWARD chain to DROP, and with br_netfilter loaded even a frame between two ports of
// one bridge passes that chain. So each bridge has one rule there, `-i BRIDGE -o BRIDGE -j ACCEPT`, for IPv4 and for IPv6,
// behind the user's own rules (DOCKER-USER) and before the Engine's. The rules are written with that back end of iptables
// (nft or legacy) which holds the Engine's chains, and carry a comment with the ids of this state and of the network, by
// which they are recognised: the rule that another state made for a network of this one's gives way to this one's. Run
// puts them back when somebody takes them away.
//
// All of it runs in the host's namespace: commands, netlink and /proc are those of the calling process's.
package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"

	"github.com/sirupsen/logrus"
)

// Options are what New needs.
type Options struct {
	StateID string        // the state's own id (store.Identity); rules carry it in a comment
	Log     *logrus.Entry // where changes and repairs are told
}

// Firewall keeps the rules of one state. Its methods may be called from several goroutines at once.
type Firewall struct {
	stateID string
	log     *logrus.Entry
	tables  []*table

	lock chan struct{} // holds a token while somebody works on the rules; guards what follows

	wanted      map[string]string // bridge to network id; nil: not known yet
	revoking    string            // id of the network that Revoke is at work on
	inUse       map[string]bool   // back ends that hold the Engine's chains, or did last; before that the system's
	legacySeen  bool              // the kernel had a legacy table at the last look
	legacyWatch bool              // a legacy table matters, or may soon: the kernel tells nobody of changes to it
}

// New finds the machine's iptables commands; it changes nothing. Without any it is an error (exec.ErrNotFound).
func New(o Options) (*Firewall, error) {
	if !validID.MatchString(o.StateID) {
		return nil, fmt.Errorf("state id %q: want letters and digits", o.StateID)
	}
	tables, system, err := findTables()
	if err != nil {
		return nil, err
	}
	f := &Firewall{
		stateID: o.StateID,
		log:     o.Log,
		tables:  tables,
		inUse:   map[string]bool{system: true},
		lock:    make(chan struct{}, 1),
	}
	if !slices.ContainsFunc(tables, func(t *table) bool { return t.ipv6 }) {
		f.log.Warn("no ip6tables command: IPv6 may not pass between containers of one network")
	}
	return f, nil
}

// Allow lets frames pass between the ports of a bridge: when it returns nil the rule is there, and Run keeps it.
func (f *Firewall) Allow(ctx context.Context, bridge, networkID string) error {
	if err := validate(bridge, networkID); err != nil {
		return err
	}
	return f.change(ctx, "allow forwarding on bridge "+bridge, func() { f.wanted[bridge] = networkID })
}

// Revoke takes back what Allow did: when it returns nil the rule is gone, and so is any that another state made for the
// network. A rule that isn't there is no error.
func (f *Firewall) Revoke(ctx context.Context, bridge, networkID string) error {
	return f.change(ctx, "revoke forwarding on bridge "+bridge, func() {
		delete(f.wanted, bridge)
		f.revoking = networkID
	})
}

// Reconcile makes wanted (bridge to network id) all there is: missing rules are added, and others of this state or for
// the same networks removed, from both back ends. Until it was called the first time, rules that this state left behind are kept as they are.
func (f *Firewall) Reconcile(ctx context.Context, wanted map[string]string) error {
	for bridge, networkID := range wanted {
		if err := validate(bridge, networkID); err != nil {
			return err
		}
	}
	if err := f.acquire(ctx); err != nil {
		return fmt.Errorf("reconcile firewall rules: %w", err)
	}
	defer f.release()
	f.wanted = maps.Clone(wanted)
	if f.wanted == nil {
		f.wanted = map[string]string{}
	}
	if err := f.sync(ctx, logrus.InfoLevel); err != nil {
		return fmt.Errorf("reconcile firewall rules: %w", err)
	}
	return nil
}

// change makes an edited set of wanted rules so. If that fails, an addition is forgotten, a removal is not.
func (f *Firewall) change(ctx context.Context, what string, edit func()) error {
	if err := f.acquire(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer f.release()
	if f.wanted == nil {
		f.adopt(ctx)
	}
	before := maps.Clone(f.wanted)
	edit()
	defer func() { f.revoking = "" }()
	if err := f.sync(ctx, logrus.DebugLevel); err != nil {
		maps.DeleteFunc(f.wanted, func(bridge, _ string) bool { _, ok := before[bridge]; return !ok })
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// adopt takes the rules that this state left behind for the wanted ones.
func (f *Firewall) adopt(ctx context.Context) {
	f.wanted = map[string]string{}
	for _, t := range f.tables {
		for bridge, networkID := range owned(t.look(ctx).chain, f.stateID) {
			if validate(bridge, networkID) == nil {
				f.wanted[bridge] = networkID
			}
		}
	}
}

// sync makes the tables have the wanted rules and no others of this state, and logs what it changed.
func (f *Firewall) sync(ctx context.Context, level logrus.Level) error {
	const tries = 5 // somebody else may be busy with the same chain
	var err error
	for range tries {
		err = f.syncOnce(ctx, level)
		var refused *exec.ExitError
		if !errors.As(err, &refused) {
			break
		}
	}
	return err
}

func (f *Firewall) syncOnce(ctx context.Context, level logrus.Level) error {
	views := make([]view, 0, len(f.tables))
	engine := map[string]bool{} // back ends that hold the Engine's chains
	for _, t := range f.tables {
		if err := ctx.Err(); err != nil {
			return err
		}
		v := t.look(ctx)
		views = append(views, v)
		if v.engine {
			engine[t.backend] = true
		}
	}
	// Both hold them after a switch without a reboot: packets then pass both. None does when somebody has flushed them
	// all; the policy may still be there.
	if len(engine) > 0 {
		f.inUse = engine
	}

	var errs []error
	for _, v := range views {
		var wanted map[string]string
		if f.inUse[v.table.backend] {
			wanted = f.wanted
		}
		errs = append(errs, f.ensure(ctx, v, wanted, level))
	}
	f.legacySeen = legacyTable(false) || legacyTable(true)
	f.legacyWatch = f.inUse[legacy] || len(engine) == 0
	return errors.Join(errs...)
}

// owner says which rules may be removed or replaced.
func (f *Firewall) owner() owner {
	o := owner{f.stateID, map[string]bool{}}
	for _, networkID := range f.wanted {
		o.networks[networkID] = true
	}
	if f.revoking != "" {
		o.networks[f.revoking] = true
	}
	return o
}

// ensure makes one table have the wanted rules and no others of this state.
func (f *Firewall) ensure(ctx context.Context, v view, wanted map[string]string, level logrus.Level) error {
	if v.err != nil {
		return f.unreadable(v, len(wanted) > 0)
	}
	c := plan(v.chain, wanted, f.owner())
	if len(c.commands) == 0 {
		return nil
	}
	if err := v.table.write(ctx, c.commands); err != nil {
		return err
	}
	if len(c.missing) == 0 {
		level = max(level, logrus.InfoLevel) // Engines shuffle the chain at each start, some with each network
	}
	log := f.log.WithField("table", v.table.String())
	for what, bridges := range map[string][]string{"missing": c.missing, "moved": c.moved, "removed": c.removed} {
		if len(bridges) > 0 {
			log = log.WithField(what, bridges)
		}
	}
	log.Log(level, "put firewall rules in order")
	return nil
}

// unreadable judges a table that can't be listed. It is an error if rules belong there, except on a machine without
// IPv6; that, and a back end that the kernel doesn't have, is logged once.
func (f *Firewall) unreadable(v view, needed bool) error {
	if needed && (v.table.readable || !v.table.ipv6) {
		return fmt.Errorf("list %s rules of %s: %w", chainName, v.table, v.err)
	}
	if !v.table.told {
		v.table.told = true
		f.log.WithField("table", v.table.String()).WithError(v.err).Warn("can't use these firewall rules, going on without")
	}
	return nil
}

func (f *Firewall) acquire(ctx context.Context) error {
	select {
	case f.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *Firewall) release() { <-f.lock }

// What goes on a command line: no leading dash, no wildcard (iptables takes a trailing + for one), no spaces; a name of
// a link has at most 15 bytes (IFNAMSIZ less its end).
var (
	validBridge = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$`)
	validID     = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)
)

func validate(bridge, networkID string) error {
	if !validBridge.MatchString(bridge) {
		return fmt.Errorf("bridge %q: want at most 15 of letters, digits, '_', '.' and '-', not beginning with '.' or '-'", bridge)
	}
	if !validID.MatchString(networkID) {
		return fmt.Errorf("bridge %s: network id %q: want at most 64 letters and digits", bridge, networkID)
	}
	return nil
}
