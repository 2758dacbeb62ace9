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

// Problems returns what is wrong now, one line for each problem: what the kernel lacks of what is tracked, what is
// left over from requests that failed, and rules that the firewall could not set. What has been put right is not among
// them. It changes nothing.
func (d *Driver) Problems(ctx context.Context) []string {
	found, err := d.findProblems(ctx)
	if err != nil {
		found = append(found, problem{"host", fmt.Errorf("what is wrong could not be found out: %w", err)})
	}
	if err := d.firewall.Problem(); err != nil {
		found = append(found, problem{"firewall", err})
	}
	networks := d.tracked.Networks()
	found = slices.Concat(found, d.ruleProblems(networks), d.routerProblems(networks), d.tunnelProblems(networks),
		d.subnetProblems(networks))
	out := make([]string, 0, len(found))
	for _, p := range found {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return out
}

// findProblems looks at the kernel twice and at memory and the records before, between and after. Requests run
// meanwhile: they record a link before they make it and erase the record after they have removed the link, and they
// track what is complete. So a link that is there both times was left over if no record named it in between; and what
// was tracked before and after the first look, and was not removed and made again, is missing if that look does not
// show it.
func (d *Driver) findProblems(ctx context.Context) ([]problem, error) {
	before := d.recall()
	w, err := d.look(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	after := d.recall()
	if w.networks, w.endpoints, err = d.loadRecords(ctx); err != nil {
		return nil, err
	}
	w.endpoints = slices.DeleteFunc(w.endpoints, func(r endpointRecord) bool {
		_, tracked := after.endpoints[r.ID]
		return r.Phase == Going && !tracked && !d.removals.has(r.ID) // its removal has failed
	})
	claimed := w.claimed()
	again, err := d.look(ctx, nil, nil)
	if err != nil {
		return nil, err
	}
	bridges, err := dockersSubnets(ctx)
	if err != nil {
		return nil, err
	}
	var p plan
	for id, nw := range before.networks {
		if now := after.networks[id]; nw.Phase == Made && now.Phase == Made && now.Created.Equal(nw.Created) {
			w.planNetwork(&p, nw, commonEndpoints(id, before, after))
			p.problems = append(p.problems, nw.overlaps(bridges)...)
		}
	}
	maps.DeleteFunc(w.links, func(name string, link *hostLink) bool {
		now := again.links[name]
		return now == nil || now.Attrs().Index != link.Attrs().Index
	})
	w.planUnclaimed(&p, claimed)
	p.problems = append(p.problems, d.leftProblems(w.links)...)
	for _, s := range p.steps {
		p.problems = append(p.problems, d.pending(s)...)
	}
	p.problems = append(p.problems, d.contested(p)...)
	p.problems = append(p.problems, d.programProblems(p.networks)...)
	incomplete, err := d.leftIncomplete(ctx, w)
	return append(p.problems, incomplete...), err
}

var errIncomplete = errors.New("it was made or removed only in part: the rest will be removed at weave's next start")

// leftIncomplete returns a problem for each network and each endpoint that a request has left so when it failed.
func (d *Driver) leftIncomplete(ctx context.Context, w world) (out []problem, err error) {
	check := func(subject string, s store.Store, id NetworkID, key string) {
		left, checkErr := d.isLeftIncomplete(ctx, s, id, key)
		if left {
			out = append(out, problem{subject, errIncomplete})
		}
		err = errors.Join(err, checkErr)
	}
	for _, nw := range w.networks {
		if nw.Phase != Made {
			check("network "+string(nw.ID), d.store, nw.ID, nw.key())
		}
	}
	for _, r := range w.endpoints {
		if r.Phase == Making {
			check("endpoint "+string(r.ID), d.endpointStore, r.Network, r.key())
		}
	}
	return out, err
}

// isLeftIncomplete reports whether a request on the network has failed and left a record incomplete. The record is read
// again under the network's lock; while somebody holds that, a request is at work and nothing is left.
func (d *Driver) isLeftIncomplete(ctx context.Context, s store.Store, id NetworkID, key string) (bool, error) {
	unlock, ok := d.locks.TryLock(id)
	if !ok {
		return false, nil
	}
	defer unlock()
	records, err := store.Load[struct {
		Phase Phase `json:"phase"`
	}](ctx, s, key)
	if err != nil {
		return false, fmt.Errorf("load record %s: %w", key, err)
	}
	now, ok := records[key]
	return ok && now.Phase != Made, nil
}

// memory is what is tracked at one moment.
type memory struct {
	networks  map[NetworkID]Network
	endpoints map[EndpointID]Endpoint
}

func (d *Driver) recall() memory {
	m := memory{networks: map[NetworkID]Network{}, endpoints: map[EndpointID]Endpoint{}}
	for _, nw := range d.tracked.Networks() {
		m.networks[nw.ID] = nw
	}
	for _, ep := range d.tracked.Endpoints() {
		m.endpoints[ep.ID] = ep
	}
	return m
}

// commonEndpoints returns the endpoints of a network that are the same in both memories.
func commonEndpoints(id NetworkID, before, after memory) []Endpoint {
	var out []Endpoint
	for _, ep := range before.endpoints {
		if now, ok := after.endpoints[ep.ID]; ok && ep.Network == id && now.Created.Equal(ep.Created) {
			out = append(out, ep)
		}
	}
	return out
}

// pending tells what a step that has not been done means, and what helps.
func (d *Driver) pending(s step) []problem {
	switch s.action {
	case removeLink:
		return []problem{{s.subject(), errors.New(
			"it belongs to no endpoint and no network any more: it will be removed at weave's next start")}}
	case giveUpBridge:
		return []problem{{s.subject(), errors.New(
			"somebody else has made it again: from now on it is used, and never changed or deleted")}}
	}
	var out []problem
	var soon []flaw
	for _, f := range s.flaws {
		if reason := d.contests.reason(s.subject(), f); reason != "" {
			out = append(out, problem{s.subject(), errors.New(reason)})
		} else {
			soon = append(soon, f)
		}
	}
	if len(soon) > 0 {
		out = append(out, problem{s.subject(), errors.New(texts(soon) + ": it is being put right")})
	}
	return out
}

// contested tells of properties that are right at this moment, but that another program changes again and again.
func (d *Driver) contested(p plan) []problem {
	subjects := map[string]bool{} // that are there and right
	for _, nw := range p.networks {
		subjects[step{action: ensureBridge, network: nw}.subject()] = true
	}
	for _, ep := range p.endpoints {
		subjects[step{action: ensureHostEnd, endpoint: ep}.subject()] = true
	}
	for _, s := range p.steps {
		delete(subjects, s.subject())
	}
	return slices.DeleteFunc(d.contests.problems(time.Now()), func(x problem) bool { return !subjects[x.subject] })
}
