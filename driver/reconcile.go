package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/store"
)

// Report is what Reconcile found and did, one line for each.
type Report struct {
	Networks  int           // tracked now
	Endpoints int           // tracked now
	Repaired  []string      // made or mended
	Removed   []string      // claimed by nothing
	Problems  []string      // could not be put right
	Took      time.Duration //
}

// Reconcile loads the store and makes the kernel what the store says: what is missing or wrong is made again, what was
// left half way is removed, and so is what carries this state's id and is claimed by no record. Nothing else is touched.
// One thing that can't be put right is a problem in the report and keeps nothing else from it; an error means that
// nothing was known to begin with, and nothing was changed.
func (d *Driver) Reconcile(ctx context.Context) (Report, error) {
	start := time.Now()
	networks, err := store.Load[networkRecord](ctx, d.store, networkKeys)
	if err != nil {
		return Report{}, fmt.Errorf("load networks: %w", err)
	}
	endpoints, err := store.Load[endpointRecord](ctx, d.endpointStore, endpointKeys)
	if err != nil {
		return Report{}, fmt.Errorf("load endpoints: %w", err)
	}
	links, err := listLinks(ctx)
	if err != nil {
		return Report{}, err
	}
	p := makePlan(d.stateID, sorted(networks), sorted(endpoints), links, func(sandbox string) bool { return d.sandboxError(sandbox) == nil })
	r := &reconciliation{d: d, links: links}
	r.apply(ctx, p)

	d.mu.Lock()
	var ids []NetworkID
	for _, nw := range p.networks {
		d.networks[nw.ID] = nw
		ids = append(ids, nw.ID)
	}
	d.mu.Unlock()
	if err := d.startForwarding(ctx, ids...); err != nil {
		r.problem("firewall", err)
	}
	for _, ep := range p.endpoints {
		ep.State = Created
		if ep.Sandbox != "" {
			ep.State = Joined
		}
		d.track(ep)
	}
	r.report.Networks, r.report.Endpoints = len(p.networks), len(p.endpoints)
	r.report.Took = time.Since(start)
	return r.report, nil
}

// sorted is the values of a map in the order of its keys, so that runs are alike.
func sorted[T any](records map[string]T) []T {
	out := make([]T, 0, len(records))
	for _, key := range slices.Sorted(maps.Keys(records)) {
		out = append(out, records[key])
	}
	return out
}

// reconciliation carries out a plan and notes what it did.
type reconciliation struct {
	d      *Driver
	links  []netlink.Link // as they were at the start
	report Report
}

func (r *reconciliation) apply(ctx context.Context, p plan) {
	for _, ep := range p.dropEndpoints {
		r.note(removed, "endpoint "+string(ep.ID), r.d.unmakeEndpoint(ctx, ep))
	}
	for _, link := range p.strays {
		r.note(removed, "link "+link.Attrs().Name, r.d.links.remove(link))
	}
	for _, link := range p.unknown {
		r.problem("link "+link.Attrs().Name, errors.New("a container uses it, and its record is gone: it is left alone, and taken up if Docker knows its endpoint"))
	}
	for _, nw := range p.dropNetworks {
		r.note(removed, "network "+string(nw.ID), r.d.unmakeNetwork(ctx, nw))
	}
	bridges := map[NetworkID]netlink.Link{}
	for i, nw := range p.networks {
		p.networks[i].Foreign = nw.Foreign || r.becameForeign(ctx, nw)
		nw = p.networks[i]
		bridges[nw.ID] = r.bridge(nw)
	}
	for _, ep := range p.endpoints {
		r.hostEnd(ep, bridges[ep.Network])
	}
}

// becameForeign reports whether a bridge that the user has named, and weave made, is somebody else's by now: after a
// reboot the host's own configuration was faster. A bridge of weave's own never has that name without its alias.
func (r *reconciliation) becameForeign(ctx context.Context, nw Network) bool {
	link := r.find(nw.Bridge)
	if link == nil || nw.Bridge == bridgeName(nw.ID) || link.Attrs().Alias != "" {
		return false
	}
	nw.Foreign = true
	if err := r.d.writeNetwork(ctx, nw, made); err != nil {
		r.problem("network "+string(nw.ID), err)
		return false
	}
	r.d.log.WithField("network", nw.ID).Warnf("bridge %s was made by somebody else: it is used, and never changed or deleted", nw.Bridge)
	return true
}

// bridge puts a network's bridge right and returns it, nil if that is not possible.
func (r *reconciliation) bridge(nw Network) netlink.Link {
	was := r.find(nw.Bridge)
	link, err := r.d.ensureNetworkBridge(nw)
	if err != nil {
		r.problem("network "+string(nw.ID), err)
		return nil
	}
	if !nw.Foreign && (was == nil || !inOrder(was, networkAlias(r.d.stateID, nw.ID), nw.MTU, 0)) {
		r.note(repaired, "bridge "+nw.Bridge, nil)
	}
	return link
}

// hostEnd puts an endpoint's host end right. One that is missing can't be made again, since the container end is gone
// with it: the listing shows that.
func (r *reconciliation) hostEnd(ep Endpoint, bridge netlink.Link) {
	link := r.find(ep.HostEnd)
	alias := endpointAlias(r.d.stateID, ep.ID)
	nw := ep.Network
	switch {
	case link == nil:
		r.problem("endpoint "+string(ep.ID), fmt.Errorf("host end %s is gone: disconnect the container from network %s and connect it again", ep.HostEnd, nw))
		return
	case bridge == nil:
		return // told already
	case inOrder(link, alias, bridge.Attrs().MTU, bridge.Attrs().Index):
		return
	}
	if err := checkOurs(link, "veth", alias); err != nil {
		r.problem("endpoint "+string(ep.ID), err)
		return
	}
	err := r.d.links.plugIn(link, veth{HostEnd: ep.HostEnd, Alias: alias, MTU: link.Attrs().MTU, Bridge: bridge})
	r.note(repaired, "host end "+ep.HostEnd, err)
}

// inOrder reports whether a link is what weave makes of it. A host end's MTU is its network's whatever the bridge's is,
// which somebody else's port may have lowered: it is not looked at.
func inOrder(link netlink.Link, alias string, mtu, master int) bool {
	a := link.Attrs()
	return a.Alias == alias && a.Flags&net.FlagUp != 0 && a.MasterIndex == master && (master != 0 || a.MTU == mtu)
}

func (r *reconciliation) find(name string) netlink.Link {
	for _, link := range r.links {
		if link.Attrs().Name == name {
			return link
		}
	}
	return nil
}

const (
	repaired = "repaired"
	removed  = "removed"
)

// note puts what was done on its list of the report, or among the problems if it went wrong.
func (r *reconciliation) note(done, what string, err error) {
	if err != nil {
		r.problem(what, err)
		return
	}
	if done == removed {
		r.report.Removed = append(r.report.Removed, what)
	} else {
		r.report.Repaired = append(r.report.Repaired, what)
	}
	r.d.log.Warnf("reconcile: %s %s", done, what)
}

func (r *reconciliation) problem(what string, err error) {
	r.report.Problems = append(r.report.Problems, what+": "+err.Error())
	r.d.log.WithError(err).Errorf("reconcile: %s", what)
}
