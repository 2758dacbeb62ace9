// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
)

// sync makes the tables hold the target, logs at level what it changed, and records whether that worked. A back end
// that can't be used is recorded, too, but is no error: the host may not need it.
func (f *Firewall) sync(ctx context.Context, level logrus.Level) error {
	if err := f.working.Acquire(ctx, 1); err != nil {
		f.record(f.currentTarget(), err)
		return err
	}
	defer f.working.Release(1)
	t := f.currentTarget()
	f.legacySeen = legacyLives(ipv4) || legacyLives(ipv6)
	var errs, unusable []error
	for _, b := range f.backends {
		switch err := f.apply(ctx, b, t, level); {
		case !errors.Is(err, errUnusable):
			errs = append(errs, err)
		case b == f.nft && slices.ContainsFunc(t.bridges, Bridge.isGateway): // nothing else keeps others out
			errs = append(errs, err)
		case f.mode != Off && (len(t.bridges) > 0 || b == f.nft && !t.isEmpty()):
			unusable = append(unusable, err)
		}
	}
	err := errors.Join(errs...)
	f.record(t, errors.Join(append(unusable, err)...))
	return err
}

// apply makes one back end hold the target. It begins anew when somebody else has changed the same rules meanwhile.
func (f *Firewall) apply(ctx context.Context, b backend, t *target, level logrus.Level) error {
	const tries = 5
	var err error
	for range tries {
		if err = f.applyOnce(ctx, b, t, level); !errors.Is(err, errChanged) {
			break
		}
	}
	return err
}

func (f *Firewall) applyOnce(ctx context.Context, b backend, t *target, level logrus.Level) error {
	o := t.owner
	o.living = sync.OnceValue(f.livingStates)
	chains, err := b.look(ctx)
	if err != nil {
		return err
	}
	wanted := f.wanted(t)
	var errs []error
	for _, c := range chains {
		e := plan(c.rules, c.kind.rulesFor(wanted[c.family], c.doors), c.kind, o)
		if e.empty() {
			continue
		}
		if err := b.write(ctx, c, e); err != nil {
			errs = append(errs, err)
			continue
		}
		f.logEdit(c, e, level)
	}
	if b == f.nft {
		errs = append(errs, f.nft.keepOwn(ctx, wanted, o))
	}
	return errors.Join(errs...)
}

// livingStates returns the ids of the states that have something on this host; nil if nobody knows.
func (f *Firewall) livingStates() map[string]bool {
	if f.living == nil {
		return nil
	}
	states, err := f.living()
	if err != nil {
		f.log.WithError(err).Warn("can't tell whose firewall rules are left over, and remove none but this weave's own")
		return nil
	}
	return states
}

// wanted returns what there have to be rules for.
func (f *Firewall) wanted(t *target) map[family][]subject {
	wanted := map[family][]subject{}
	for _, v := range families {
		if f.mode.allows(v) {
			wanted[v] = subjects(t.bridges, f.stateID)
			for i, s := range wanted[v] {
				if s.routed && !s.isSpecial() {
					wanted[v][i].accept = f.accept
				}
			}
			wanted[v] = append(wanted[v], t.tunnel.subjects(v)...)
		}
	}
	return wanted
}

func (f *Firewall) logEdit(c chain, e edit, level logrus.Level) {
	if len(e.missing) == 0 {
		level = max(level, logrus.InfoLevel) // Docker shuffles the chain at each start, some versions with each network
	}
	log := f.log.WithField("chain", c.String())
	for what, links := range map[string][]string{"missing": e.missing, "moved": e.moved, "removed": e.removed} {
		if len(links) > 0 {
			log = log.WithField(what, links)
		}
	}
	log.Log(level, "put firewall rules in order")
}
