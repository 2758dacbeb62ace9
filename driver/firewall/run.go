// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	settleTime     = 100 * time.Millisecond // from an event to the look: changes come in bursts
	legacyInterval = time.Second            // between looks at legacy tables, for which the kernel sends no events
	fullInterval   = 30 * time.Second       // between looks at everything, even without an event
	retryPause     = time.Second            // after rules could not be put back
)

// Run keeps what was Set until ctx ends, and then returns nil. It looks at the tables when the kernel reports a change
// of nftables, every second where there are legacy tables, and every 30 seconds in any case, and puts back rules that
// somebody flushed, reloaded or displaced, also in tables that are new. A Set that failed is tried again.
func (f *Firewall) Run(ctx context.Context) error {
	var watcher sync.WaitGroup
	watcher.Go(func() { f.watchEvents(ctx, subscribe) })
	watcher.Go(func() { f.zone.Run(ctx) })
	defer watcher.Wait()
	legacyTick := time.NewTicker(legacyInterval)
	defer legacyTick.Stop()
	fullTick := time.NewTicker(fullInterval)
	defer fullTick.Stop()

	next := time.After(0) // of a look that something calls for; nil: nothing does
	logged := ""          // the last failure
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
			if next == nil {
				next = time.After(settleTime)
			}
			continue
		case <-next:
			next = nil
		case <-legacyTick.C:
			if !f.legacyChanged(ctx) {
				continue
			}
		case <-fullTick.C:
		}
		failure := ""
		if err := f.repair(ctx); err != nil && ctx.Err() == nil {
			next = time.After(retryPause)
			failure = err.Error()
			if failure != logged {
				f.log.WithError(err).
					Error("firewall rules could not be kept; containers of one network may not reach each other")
			}
		}
		logged = failure
	}
}

// repair makes the tables hold the target again. While nothing is wanted, and rules that were wanted before are gone,
// it runs no command.
func (f *Firewall) repair(ctx context.Context) error {
	t := f.currentTarget()
	if t == nil || t.isEmpty() && f.Problem() == nil {
		return nil
	}
	return f.sync(ctx, logrus.WarnLevel)
}

// legacyChanged reports whether the legacy tables call for a repair. Where there are none it runs no command.
func (f *Firewall) legacyChanged(ctx context.Context) bool {
	if f.working.Acquire(ctx, 1) != nil {
		return false
	}
	defer f.working.Release(1)
	lives := legacyLives(ipv4) || legacyLives(ipv6)
	if lives != f.legacySeen {
		return true
	}
	t := f.currentTarget()
	if !lives || t == nil || len(t.bridges) == 0 {
		return false
	}
	wanted := f.wanted(t)
	for _, b := range f.backends {
		if b == f.nft {
			continue
		}
		chains, err := b.look(ctx)
		changed := func(c chain) bool {
			return !plan(c.rules, c.kind.rulesFor(wanted[c.family], c.doors), c.kind, t.owner).empty()
		}
		if err == nil && slices.ContainsFunc(chains, changed) {
			return true
		}
	}
	return false
}
