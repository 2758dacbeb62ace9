// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
// and nothing of that if a container uses it. What can't be put right is a problem in the report, and the rest is put
// right nevertheless. An error means that the present state could not be found out and that nothing was changed.
// Reconcile must be called once, before Docker's calls are answered.
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
	d.noteLinks(w, p)
	outcomes := d.apply(ctx, p)
	if err := errors.Join(d.guardTunnel(ctx), d.setForwarding(ctx)); err != nil {
		p.problems = append(p.problems, problem{"firewall", err})
	}
	report := reportOf(p, outcomes)
	for _, o := range outcomes {
		if o.err == nil {
			d.log.Warnf("reconcile: %s", o.done())
		}
	}
	for _, x := range report.Problems {
		d.log.Errorf("reconcile: %s", x)
	}
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
	links, err := listHostLinks(ctx)
	if err != nil {
		return world{}, err
	}
	for _, link := range links {
		if _, ours := parseAlias(link.Attrs().Alias); ours || isOwnName(link.Attrs().Name) {
			if err := d.links.lookAtPrograms(link); err != nil {
				return world{}, err
			}
		}
	}
	w := d.worldOf(links)
	w.networks, w.endpoints, w.thorough = networks, endpoints, true
	return w, nil
}

// worldOf returns the world with these links.
func (d *Driver) worldOf(links map[string]*hostLink) world {
	return world{
		stateID: d.stateID, links: links, tags: d.tags, made: d.links.made.of, tunnel: d.tunnel,
		alive: func(sandbox string) bool { return d.sandboxError(sandbox) == nil },
	}
}

// noteLinks notes the links that are weave's, to know them when somebody changes their aliases.
func (d *Driver) noteLinks(w world, p plan) {
	note := func(want wanted) {
		if link := w.find(want); link != nil && link.Attrs().Alias == want.alias.String() {
			d.links.made.note(want.name, link.Attrs().Index)
		}
	}
	for _, nw := range p.networks {
		note(wantedBridge(d.stateID, nw))
		if nw.VNI != 0 {
			note(wantedDevice(d.stateID, nw, d.tunnel))
		}
	}
	for _, ep := range p.endpoints {
		note(wantedHostEnd(d.stateID, Network{}, ep))
	}
}

// outcome is how a step ended.
type outcome struct {
	step
	err error
}

// apply does the steps of a plan. One that fails keeps no other from being done, except that host ends wait for their
// bridge.
func (d *Driver) apply(ctx context.Context, p plan) []outcome {
	var out []outcome
	noBridge := map[NetworkID]bool{} // networks whose bridge could not be made
	for _, s := range p.steps {
		if (s.action == ensureHostEnd || s.action == ensureDevice) && noBridge[s.network.ID] {
			continue
		}
		err := d.do(ctx, s)
		noBridge[s.network.ID] = noBridge[s.network.ID] || err != nil && s.action == ensureBridge && s.link == nil
		out = append(out, outcome{s, err})
	}
	return out
}

// reportOf returns the report of a plan whose steps have ended so.
func reportOf(p plan, outcomes []outcome) Report {
	r := Report{Networks: len(p.networks), Endpoints: len(p.endpoints)}
	for _, x := range p.problems {
		r.Problems = append(r.Problems, x.String())
	}
	for _, o := range outcomes {
		switch {
		case o.err != nil:
			r.Problems = append(r.Problems, problem{o.subject(), o.err}.String())
		case o.action == removeEndpoint || o.action == removeNetwork || o.action == removeLink:
			r.Removed = append(r.Removed, o.subject())
		case o.action == keepNetwork:
			r.Repaired = append(r.Repaired, o.subject())
		case o.action == ensureBridge || o.action == ensureHostEnd || o.action == ensureDevice:
			r.Repaired = append(r.Repaired, problem{o.subject(), o.wrong()}.String())
		}
	}
	return r
}

// done tells in the log what the step has done.
func (s step) done() string {
	switch s.action {
	case removeEndpoint, removeNetwork, removeLink:
		return "removed " + s.subject()
	case giveUpBridge:
		return s.subject() + " was made by somebody else: it is used, and never changed or deleted"
	default:
		return "repaired " + problem{s.subject(), s.wrong()}.String()
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
		d.tracked.setNetwork(s.network, causeOf(ctx))
		return nil
	case ensureBridge:
		return d.repairBridge(ctx, s)
	case ensureHostEnd:
		return d.repairHostEnd(s)
	case ensureDevice:
		return d.ensureDevice(s.network, s.leavesOut)
	}
	return errors.New("unknown action " + string(s.action)) // a defect
}

// repairBridge makes a network's bridge again, or puts right what is wrong with it.
func (d *Driver) repairBridge(ctx context.Context, s step) error {
	if s.link == nil {
		_, err := d.ensureNetworkBridge(ctx, s.network)
		return err
	}
	return d.links.mend(s.link, wantedBridge(d.stateID, s.network), s.leavesOut)
}

// repairHostEnd puts right what is wrong with a host end. Its bridge may just have been made again.
func (d *Driver) repairHostEnd(s step) error {
	want, err := wantedHostEnd(d.stateID, s.network, s.endpoint).onBridge(s.network.Bridge)
	if err != nil {
		return err
	}
	return d.links.mend(s.link, want, s.leavesOut)
}
