// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"
	"time"
)

// Repair makes the kernel match one tracked network. It may be called at any time.
func (d *Driver) Repair(ctx context.Context, id NetworkID) (Report, error) {
	start := time.Now()
	unlock, err := d.locks.lock(ctx, id)
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	report, _, err := d.repair(ctx, id, nil)
	report.Took = time.Since(start)
	return report, err
}

// repair makes the kernel match one tracked network, whose lock the caller holds, but for properties that another
// program changes again and again: these are left as they are for a while. Next is when something has to be tried
// again; zero: nothing has. By has, by the name of a link, who changed it.
func (d *Driver) repair(ctx context.Context, id NetworkID, by map[string]string) (_ Report, next time.Time, err error) {
	nw, ok := d.tracked.network(id)
	if !ok || nw.Phase != Made {
		return Report{}, next, fmt.Errorf("repair: %w: network %s", ErrNotFound, id)
	}
	w, err := d.look(ctx, nil, nil)
	if err != nil {
		return Report{}, next, err
	}
	var p plan
	w.planNetwork(&p, nw, d.tracked.endpointsOf(id))
	d.noteLinks(w, p)
	d.tellDrift(nw, p)
	p.steps, next = d.contests.hold(p.steps, time.Now())
	outcomes, err := d.applyTo(ctx, nw, p)
	if err != nil {
		return Report{}, next, err
	}
	for _, o := range outcomes {
		d.settle(o, by)
		if retry := time.Now().Add(firstPause); o.err != nil && (next.IsZero() || retry.Before(next)) {
			next = retry
		}
	}
	return reportOf(p, outcomes), next, nil
}

// applyTo applies the plan for one network. If its frames are tagged from now on, or not any more, the firewall's rule
// is there while the ports differ.
func (d *Driver) applyTo(ctx context.Context, nw Network, p plan) ([]outcome, error) {
	now, log := p.networks[0], d.log.WithField("network", nw.ID)
	switch {
	case now.Tagged == nw.Tagged:
		return d.apply(ctx, p), nil
	case !now.Tagged:
		log.Warn("the frames of the network pass the host's rules from now on")
		d.tracked.setNetwork(now)
		err := d.setForwarding(ctx)
		return d.apply(ctx, p), err
	}
	outcomes := d.apply(ctx, p)
	log.Info("the frames of the network pass no rule of the host's from now on")
	d.tracked.setNetwork(now)
	return outcomes, d.setForwarding(ctx)
}

// tellDrift tells, in the log and on the feed, what is wrong with a network and was not told the last time.
func (d *Driver) tellDrift(nw Network, p plan) {
	found := p.problems
	for _, s := range p.steps {
		found = append(found, problem{s.subject(), s.wrong()})
	}
	for _, x := range d.history.news(nw.ID, found) {
		d.log.WithField("network", nw.ID).Warnf("not as it should be: %s", x)
		d.tracked.publish(Change{Kind: Drifted, Network: nw, What: x})
	}
}

// settle records how a step has ended, and tells on the feed what was put right.
func (d *Driver) settle(o outcome, by map[string]string) {
	who := ""
	if o.link != nil {
		who = by[o.link.Attrs().Name]
	}
	d.contests.attempted(o.step, who, o.err, time.Now())
	if o.err != nil {
		d.log.WithError(o.err).Debugf("not put right: %s", o.subject())
		return
	}
	d.history.add(Repair{
		Time: time.Now(), Network: o.network.ID, Subject: o.subject(), What: o.wrong().Error(), By: who,
	})
	d.tracked.publish(Change{Kind: Repaired, Network: o.network, What: problem{o.subject(), o.wrong()}.String()})
}
