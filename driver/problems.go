package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Problems returns what is wrong now, a line for each: what the kernel lacks of what is tracked, what is left over from
// removals that failed, and rules that the firewall could not set. What was put right since it was last called is not in
// it. It changes nothing.
func (d *Driver) Problems(ctx context.Context) []string {
	found, err := d.findProblems(ctx)
	if err != nil {
		found = append(found, problem{"host", fmt.Errorf("what is wrong could not be found out: %w", err)})
	}
	out := make([]string, 0, len(found))
	for _, p := range found {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return out
}

func (d *Driver) findProblems(ctx context.Context) ([]problem, error) {
	// Requests go on meanwhile. So a thing is missing only if it was tracked both before and after the look, and left over
	// only if no record named it at either time.
	before, err := d.remembered(ctx)
	if err != nil {
		return nil, err
	}
	w, err := d.look(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	after, err := d.remembered(ctx)
	if err != nil {
		return nil, err
	}
	var p plan
	for id, nw := range before.networks {
		if now, ok := after.networks[id]; !ok || now.Phase != Made || nw.Phase != Made {
			continue
		}
		var endpoints []Endpoint
		for _, ep := range before.endpoints {
			if _, ok := after.endpoints[ep.ID]; ok && ep.Network == id {
				endpoints = append(endpoints, ep)
			}
		}
		w.planNetwork(&p, nw, endpoints)
	}
	maps.Copy(before.claimed, after.claimed)
	w.planUnclaimed(&p, before.claimed)
	for _, s := range p.steps {
		p.problems = append(p.problems, problem{s.subject(), s.pending()})
	}
	if err := d.firewall.Problem(); err != nil {
		p.problems = append(p.problems, problem{"firewall", err})
	}
	return p.problems, nil
}

// memory is what is tracked and recorded at one moment.
type memory struct {
	networks  map[NetworkID]Network
	endpoints map[EndpointID]Endpoint
	claimed   map[string]bool // names of links that records name, but for those of removals that have failed
}

func (d *Driver) remembered(ctx context.Context) (memory, error) {
	m := memory{networks: map[NetworkID]Network{}, endpoints: map[EndpointID]Endpoint{}}
	for _, nw := range d.tracked.Networks() {
		m.networks[nw.ID] = nw
	}
	for _, ep := range d.tracked.Endpoints() {
		m.endpoints[ep.ID] = ep
	}
	networks, endpoints, err := d.loadRecords(ctx)
	if err != nil {
		return memory{}, err
	}
	m.claimed = world{networks: networks}.claimed()
	leaving := d.removals.hostEnds()
	for _, r := range endpoints {
		if _, tracked := m.endpoints[r.ID]; tracked || r.Phase != Going || leaving[r.HostEnd] {
			m.claimed[r.HostEnd] = true
		}
	}
	return m, nil
}

// pending tells what a step that has not been done means, and what helps.
func (s step) pending() error {
	switch s.action {
	case removeLink:
		return errors.New("it belongs to no endpoint and no network any more: it will be removed at weave's next start")
	case giveUpBridge:
		return errors.New("somebody else has made it anew: it will be used, never changed and never deleted, from weave's next start on")
	}
	return errors.New("it is missing or was changed: it will be repaired at weave's next start")
}
