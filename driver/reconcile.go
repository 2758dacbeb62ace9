// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/store"
)

// Report is what a reconciliation found and did, one line for each.
type Report struct {
	Networks  int      // how many are tracked now
	Endpoints int      // likewise
	Repaired  []string // made or repaired
	Removed   []string // had no record, or were made or removed only in part
	Problems  []string // could not be put right
	Took      time.Duration
}

// Reconcile loads the records and makes the kernel match them: it makes again what is missing or wrong, and removes
// what was made or removed only in part, and links with this state's id that no record names. It touches nothing else,
// and nothing of that if a container uses it.
// What can't be put right is a problem in the report, and the rest is put right nevertheless. An error means that the
// present state could not be found out and that nothing was changed. Reconcile must be called once, before Docker's
// calls are answered.
func (d *Driver) Reconcile(ctx context.Context) (Report, error) {
	start := time.Now()
	networks, endpoints, err := d.loadRecords(ctx)
	if err != nil {
		return Report{}, err
	}
	w, err := d.look(ctx, networks, endpoints)
	if err != nil {
		return Report{}, err
	}
	p := w.plan()
	d.tracked.load(p.networks, p.endpoints)
	d.left.load(p.left)
	report := d.apply(ctx, p)
	report.Took = time.Since(start)
	return report, nil
}

// Repair makes the kernel match one tracked network. It may be called at any time.
func (d *Driver) Repair(ctx context.Context, id NetworkID) (Report, error) {
	start := time.Now()
	unlock, err := d.locks.lock(ctx, id)
	if err != nil {
		return Report{}, err
	}
	defer unlock()
	nw, ok := d.tracked.network(id)
	if !ok || nw.Phase != Made {
		return Report{}, fmt.Errorf("repair: %w: network %s", ErrNotFound, id)
	}
	w, err := d.look(ctx, nil, nil)
	if err != nil {
		return Report{}, err
	}
	var p plan
	w.planNetwork(&p, nw, d.tracked.endpointsOf(id))
	report := d.apply(ctx, p)
	report.Took = time.Since(start)
	return report, nil
}

// loadRecords returns all records in the order of their keys.
func (d *Driver) loadRecords(ctx context.Context) ([]Network, []endpointRecord, error) {
	networks, err := store.Load[Network](ctx, d.store, networkKeys)
	if err != nil {
		return nil, nil, fmt.Errorf("load networks: %w", err)
	}
	endpoints, err := store.Load[endpointRecord](ctx, d.endpointStore, endpointKeys)
	if err != nil {
		return nil, nil, fmt.Errorf("load endpoints: %w", err)
	}
	return sorted(networks), sorted(endpoints), nil
}

// sorted returns the values of a map in the order of its keys.
func sorted[T any](records map[string]T) []T {
	out := make([]T, 0, len(records))
	for _, key := range slices.Sorted(maps.Keys(records)) {
		out = append(out, records[key])
	}
	return out
}

// look lists the host's links, to plan with for these records.
func (d *Driver) look(ctx context.Context, networks []Network, endpoints []endpointRecord) (world, error) {
	links, err := listLinks(ctx)
	if err != nil {
		return world{}, err
	}
	byName := make(map[string]netlink.Link, len(links))
	for _, link := range links {
		byName[link.Attrs().Name] = link
	}
	return world{
		stateID: d.stateID, networks: networks, endpoints: endpoints, links: byName,
		alive: func(sandbox string) bool { return d.sandboxError(sandbox) == nil },
	}, nil
}

// apply does the steps of a plan. Those that fail are problems of the report; the firewall's rules are set in any case.
func (d *Driver) apply(ctx context.Context, p plan) Report {
	r := Report{Networks: len(p.networks), Endpoints: len(p.endpoints)}
	fail := func(x problem) {
		r.Problems = append(r.Problems, x.String())
		d.log.WithError(x.err).Errorf("reconcile: %s", x.subject)
	}
	for _, x := range p.problems {
		fail(x)
	}
	noBridge := map[NetworkID]bool{} // networks whose bridge could not be made: their host ends have to wait
	for _, s := range p.steps {
		if s.action == ensureHostEnd && noBridge[s.network.ID] {
			continue
		}
		if err := d.do(ctx, s); err != nil {
			fail(problem{s.subject(), err})
			noBridge[s.network.ID] = noBridge[s.network.ID] || s.action == ensureBridge
			continue
		}
		d.log.Warnf("reconcile: %s", s.outcome())
		switch s.action {
		case removeEndpoint, removeNetwork, removeLink:
			r.Removed = append(r.Removed, s.subject())
		case keepNetwork, ensureBridge, ensureHostEnd:
			r.Repaired = append(r.Repaired, s.subject())
		}
	}
	if err := d.setForwarding(ctx); err != nil {
		fail(problem{"firewall", err})
	}
	return r
}

// outcome tells in the log what the step has done.
func (s step) outcome() string {
	switch s.action {
	case removeEndpoint, removeNetwork, removeLink:
		return "removed " + s.subject()
	case giveUpBridge:
		return s.subject() + " was made by somebody else: it is used, and never changed or deleted"
	default:
		return "repaired " + s.subject()
	}
}

// do does one step.
func (d *Driver) do(ctx context.Context, s step) error {
	switch s.action {
	case removeEndpoint:
		return d.removeEndpoint(ctx, s.endpoint)
	case removeNetwork:
		return d.removeNetwork(ctx, s.network)
	case removeLink:
		return d.links.remove(s.link)
	case keepNetwork:
		return d.completeNetwork(ctx, s.network)
	case giveUpBridge:
		if err := d.writeNetwork(ctx, s.network); err != nil {
			return err
		}
		d.tracked.setNetwork(s.network)
		return nil
	case ensureBridge:
		_, err := d.ensureNetworkBridge(s.network)
		return err
	case ensureHostEnd:
		return d.repairHostEnd(s)
	}
	return errors.New("unknown action " + string(s.action)) // a defect
}

// repairHostEnd makes a host end a port of its network's bridge again, and sets it up.
func (d *Driver) repairHostEnd(s step) error {
	bridge, err := findLink(s.network.Bridge)
	switch {
	case err != nil:
		return err
	case bridge == nil:
		return fmt.Errorf("%w: bridge %s", ErrNotFound, s.network.Bridge)
	}
	return d.links.attachHostEnd(s.link, veth{
		HostEnd: s.endpoint.HostEnd, Alias: endpointAlias(d.stateID, s.endpoint.ID),
		MTU: s.link.Attrs().MTU, Bridge: bridge,
	})
}
