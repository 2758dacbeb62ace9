// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"os/exec"

	"github.com/sirupsen/logrus"
)

// sync makes the tables hold the target, logs at level what it changed, and records whether that worked.
func (f *Firewall) sync(ctx context.Context, level logrus.Level) error {
	if err := f.working.Acquire(ctx, 1); err != nil {
		f.record(f.currentTarget(), err)
		return err
	}
	defer f.working.Release(1)
	t := f.currentTarget()
	err := f.apply(ctx, t, level)
	f.record(t, err)
	return err
}

// apply repeats applyOnce when iptables refuses, since somebody else may have changed the same chain meanwhile.
func (f *Firewall) apply(ctx context.Context, t *target, level logrus.Level) error {
	const tries = 5
	var err error
	for range tries {
		err = f.applyOnce(ctx, t, level)
		var refused *exec.ExitError
		if !errors.As(err, &refused) {
			break
		}
	}
	return err
}

func (f *Firewall) applyOnce(ctx context.Context, t *target, level logrus.Level) error {
	views := make([]view, 0, len(f.tables))
	docker := map[string]bool{} // back ends that hold Docker's chains
	for _, table := range f.tables {
		if err := ctx.Err(); err != nil {
			return err
		}
		v := table.look(ctx)
		views = append(views, v)
		if v.docker {
			docker[table.backend] = true
		}
	}
	// Both back ends hold them after a switch without a reboot: packets then pass both. None does when somebody has
	// flushed everything; the policy DROP may still be there.
	if len(docker) > 0 {
		f.inUse = docker
	}

	var errs []error
	for _, v := range views {
		errs = append(errs, f.ensure(ctx, v, t, level))
	}
	f.legacySeen = legacyTable(false) || legacyTable(true)
	f.legacyWatch = f.inUse[legacy] || len(docker) == 0
	return errors.Join(errs...)
}

// ensure makes one table hold the target if its back end is in use, and otherwise no rules of this state.
func (f *Firewall) ensure(ctx context.Context, v view, t *target, level logrus.Level) error {
	rules := t.rules
	if !f.inUse[v.table.backend] {
		rules = nil
	}
	if v.err != nil {
		return f.unreadable(v, f.inUse[v.table.backend] && len(t.owner.networks) > 0)
	}
	e := plan(v.chain, rules, t.owner)
	if len(e.commands) == 0 {
		return nil
	}
	if err := v.table.write(ctx, e.commands); err != nil {
		return err
	}
	if len(e.missing) == 0 {
		level = max(level, logrus.InfoLevel) // Docker shuffles the chain at each start, some versions with each network
	}
	log := f.log.WithField("table", v.table.String())
	for what, bridges := range map[string][]string{"missing": e.missing, "moved": e.moved, "removed": e.removed} {
		if len(bridges) > 0 {
			log = log.WithField(what, bridges)
		}
	}
	log.Log(level, "put firewall rules in order")
	return nil
}

// unreadable returns an error if a table that can't be listed is needed, that is, if it should hold rules or did. An
// IPv6 table that could never be listed is not: the machine has no IPv6. Where it is no error, it is logged once.
func (f *Firewall) unreadable(v view, needed bool) error {
	if needed && (v.table.readable || !v.table.ipv6) {
		return fmt.Errorf("list %s rules of %s: %w", chainName, v.table, v.err)
	}
	if !v.table.warned {
		v.table.warned = true
		f.log.WithField("table", v.table.String()).WithError(v.err).
			Warn("can't use these firewall rules, going on without")
	}
	return nil
}
