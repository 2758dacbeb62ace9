// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Repair makes the kernel match one tracked network. It may be called at any time.
func (d *Driver) Repair(ctx context.Context, id NetworkID) (Report, error) {
	start := time.Now()
	unlock, err := d.lock(ctx, id)
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
	p.steps, next = d.contests.hold(p.steps, time.Now())
	outcomes, err := d.applyTo(ctx, w, nw, p)
	d.tell(ctx, nw, p, outcomes, by)
	if err != nil {
		return Report{}, next, err
	}
	for _, o := range outcomes {
		if retry := time.Now().Add(firstPause); o.err != nil && (next.IsZero() || retry.Before(next)) {
			next = retry
		}
	}
	return reportOf(p, outcomes), next, nil
}

// applyTo applies the plan for one network. If its frames are tagged from now on, or not any more, the firewall's rule
// is there while the ports differ.
func (d *Driver) applyTo(ctx context.Context, w world, nw Network, p plan) ([]outcome, error) {
	now, log := p.networks[0], d.log.WithField("network", nw.ID)
	switch {
	case now.Tagged == nw.Tagged && now.Foreign != nw.Foreign: // somebody else has made the bridge: other rules
		outcomes := d.apply(ctx, p)
		return outcomes, d.setForwarding(ctx)
	case now.Tagged == nw.Tagged:
		return d.apply(ctx, p), nil
	case !now.Tagged:
		log.Warn("the frames of the network pass the host's rules from now on")
		d.tracked.setNetwork(now, causeOf(ctx))
		err := d.setForwarding(ctx)
		return d.apply(ctx, p), err
	}
	outcomes := d.apply(ctx, p)
	if err := w.checkTagged(now, p.endpoints); err != nil {
		log.WithError(err).Warn("the frames of the network pass the host's rules still")
		return outcomes, nil // the look each minute tries again
	}
	log.Info("the frames of the network pass no rule of the host's from now on")
	d.tracked.setNetwork(now, causeOf(ctx))
	return outcomes, d.setForwarding(ctx)
}

// checkTagged returns an error if a port of the network has not the programs that it is to have, after the steps of a
// plan that was made from w.
func (w world) checkTagged(nw Network, endpoints []Endpoint) error {
	for _, ep := range endpoints {
		want := wantedHostEnd(w.stateID, nw, ep)
		if link := w.find(want); link != nil && (link.programs == nil || *link.programs != want.programs) {
			return fmt.Errorf("host end %s lacks its tc programs", ep.HostEnd)
		}
	}
	if nw.VNI != 0 {
		want := wantedDevice(w.stateID, nw, w.tunnel)
		if link := w.find(want); link != nil && (link.programs == nil || *link.programs != want.programs) {
			return fmt.Errorf("VXLAN device %s lacks its tc programs", want.name)
		}
	}
	return nil
}

// tell tells in the log, on the feed and in the history what was wrong with a network, and how the steps have ended.
// What stays wrong is told once.
func (d *Driver) tell(ctx context.Context, nw Network, p plan, outcomes []outcome, by map[string]string) {
	wrong := p.problems
	repaired := map[string][]outcome{} // by what was wrong
	for _, o := range outcomes {
		who := o.changedBy(by)
		d.contests.attempted(o.step, who, o.err, time.Now())
		if o.err != nil {
			wrong = append(wrong, problem{o.subject(), fmt.Errorf("%w: %w", o.wrong(), o.err)})
			continue
		}
		what := o.wrong().Error()
		repaired[what] = append(repaired[what], o)
	}
	log := d.log.WithField("network", nw.ID)
	for _, x := range d.history.news(nw.ID, wrong) {
		log.Errorf("not as it should be: %s", x)
		d.tracked.publish(Change{Kind: Drifted, Network: nw, What: x})
	}
	for _, what := range slices.Sorted(maps.Keys(repaired)) {
		for _, r := range repairsOf(nw, what, repaired[what], by) {
			log.WithField("by", r.By).Warnf("repaired %s: %s", r.Subject, what)
			d.history.add(r)
			c := Change{Kind: Drifted, Network: nw, What: r.Subject + ": " + what, Cause: Cause{CauseNetlink, r.By}}
			d.tracked.publish(c)
			c.Kind, c.Cause = Repaired, cmp.Or(causeOf(ctx), Cause{Kind: CauseRepair})
			d.tracked.publish(c)
		}
	}
}

// repairsOf returns what is told of repairs of a network that the same was wrong with. Of many host ends, such as those
// of a bridge that was deleted, it is told at once.
func repairsOf(nw Network, what string, outcomes []outcome, by map[string]string) (out []Repair) {
	r := Repair{Time: time.Now(), Network: nw.ID, What: what}
	if len(outcomes) > keptRepairs/10 {
		r.Subject = fmt.Sprintf("%d links of network %s", len(outcomes), nw.ID)
		return []Repair{r}
	}
	for _, o := range outcomes {
		r.Subject, r.By = o.subject(), o.changedBy(by)
		out = append(out, r)
	}
	return out
}

// changedBy returns who gave the step's link addresses that it removes, if that is known.
func (s step) changedBy(by map[string]string) string {
	isRemoved := func(f flaw) bool { return f.property == addressesProperty && !s.leavesOut(f.property) }
	if s.link == nil || !slices.ContainsFunc(s.flaws, isRemoved) {
		return ""
	}
	return by[s.link.Attrs().Name]
}
