// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// settleTime is from an event of the kernel to the look at what it is about: changes come in bursts, those of
	// weave's own requests among them.
	settleTime = 100 * time.Millisecond
	// fullInterval is between two looks at everything. Of some changes the kernel sends no event, such as most sysctls.
	fullInterval = time.Minute
	// repairTime bounds the repair of one network; lockTime the wait for a request on it, after which the others go on.
	repairTime = 30 * time.Second
	lockTime   = 300 * time.Millisecond
	// singleLooks is how many links are looked at one by one; for more a listing of all links is cheaper.
	singleLooks = 16
)

// keeper keeps the networks as weave makes them while it runs. One goroutine uses it.
type keeper struct {
	d     *Driver
	later map[NetworkID]time.Time // networks that are to be looked at again, and when
}

// run repairs networks whose links somebody has changed, when the kernel tells of it, and looks at everything each
// minute, until ctx ends. What weave has changed itself is looked at, too, but found in order.
func (k *keeper) run(ctx context.Context) {
	tick := time.NewTicker(fullInterval)
	defer tick.Stop()
	for ctx.Err() == nil {
		due, stop := k.timer()
		select {
		case <-ctx.Done():
		case <-tick.C:
			k.lookAtAll(ctx, nil)
		case <-due:
			k.lookAgain(ctx)
		case <-k.d.changed.ready:
			if wait.For(ctx, settleTime) {
				k.lookAt(ctx, k.d.changed.take())
			}
		}
		stop()
	}
}

// timer returns a channel that gets a value when the first network is to be looked at again.
func (k *keeper) timer() (due <-chan time.Time, stop func()) {
	if len(k.later) == 0 {
		return nil, func() {}
	}
	first := slices.MinFunc(slices.Collect(maps.Values(k.later)), time.Time.Compare)
	timer := time.NewTimer(time.Until(first))
	return timer.C, func() { timer.Stop() }
}

// lookAgain repairs the networks that are to be looked at again by now.
func (k *keeper) lookAgain(ctx context.Context) {
	for id, at := range k.later {
		if !at.After(time.Now()) {
			delete(k.later, id)
			k.repair(ctx, id, nil)
		}
	}
}

// lookAtAll repairs all networks that are not in order. One listing of the host's links finds out which these are.
func (k *keeper) lookAtAll(ctx context.Context, by map[string]string) {
	w, err := k.d.look(ctx, nil, nil)
	if err != nil {
		k.d.log.WithError(err).Warn("the host's links could not be looked at: trying again")
		if wait.For(ctx, firstPause) {
			k.d.changed.noteAll()
		}
		return
	}
	if err := k.d.keepForwarding(); err != nil {
		k.d.log.WithError(err).Warn("the ways out of networks are closed")
	}
	for _, nw := range k.d.tracked.Networks() {
		if nw.Phase == Made && !w.inOrder(nw, k.d.tracked.endpointsOf(nw.ID)) {
			k.repair(ctx, nw.ID, by)
		}
	}
}

// lookAt repairs the networks that these links belong to, if one of the links is not in order. It looks at few links
// only, so on a host with a thousand endpoints, too, an event costs little.
func (k *keeper) lookAt(ctx context.Context, changed changedLinks) {
	if changed.all {
		k.lookAtAll(ctx, changed.by)
		return
	}
	concerned := map[NetworkID][]Endpoint{}
	full := map[NetworkID]bool{} // a look at these links alone is not enough
	for link := range changed.links {
		id, ep, ok := k.d.tracked.ofLink(link, k.d.stateID)
		if !ok {
			continue
		}
		endpoints := concerned[id]
		if ep.ID != "" {
			endpoints = append(endpoints, ep)
		}
		concerned[id] = endpoints
		full[id] = full[id] || changed.full[link.name]
	}
	for id, endpoints := range concerned {
		nw, ok := k.d.tracked.network(id)
		switch {
		case ok && nw.Phase == Making: // it will be tracked as made, or not at all
			k.later[id] = time.Now().Add(settleTime)
		case ok && nw.Phase == Made && (full[id] || !k.d.seemInOrder(nw, endpoints)):
			k.repair(ctx, id, changed.by)
		}
	}
}

// seemInOrder reports whether a network's bridge and some of its host ends seem to be in order. Addresses, which would
// take a listing of all, are not looked at.
func (d *Driver) seemInOrder(nw Network, endpoints []Endpoint) bool {
	if len(endpoints) > singleLooks {
		return false
	}
	links := map[string]*hostLink{}
	names := []string{nw.Bridge}
	if nw.VNI != 0 {
		names = append(names, deviceName(nw.ID))
	}
	for _, ep := range endpoints {
		names = append(names, ep.HostEnd)
	}
	for _, name := range names {
		link, err := findHostLink(name)
		if err != nil {
			return false
		}
		if link == nil {
			continue
		}
		if err := d.links.lookAtPrograms(link); err != nil {
			return false
		}
		links[name] = link
	}
	return d.worldOf(links).inOrder(nw, endpoints)
}

// repair repairs a network now, or later if a request on it takes long, or if something has to be tried again.
func (k *keeper) repair(ctx context.Context, id NetworkID, by map[string]string) {
	ctx, cancel := context.WithTimeout(ctx, repairTime)
	defer cancel()
	waiting, stop := context.WithTimeout(ctx, lockTime)
	defer stop()
	unlock, err := k.d.lock(waiting, id)
	if err != nil {
		k.later[id] = time.Now().Add(settleTime)
		return
	}
	defer unlock()
	if nw, ok := k.d.tracked.network(id); !ok || nw.Phase != Made {
		return
	}
	_, next, err := k.d.repair(ctx, id, by)
	switch {
	case err != nil && ctx.Err() == nil:
		k.d.log.WithField("network", id).WithError(err).Warn("the network could not be looked at: trying again")
		k.later[id] = time.Now().Add(firstPause)
	case !next.IsZero():
		k.later[id] = next
	}
}
