// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/problems"
	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

const (
	// settleTime is from an event of the kernel to the look at what it is about: changes come in bursts.
	settleTime = 20 * time.Millisecond
	// A container that changes its links all the time is looked at so often in a round, and otherwise at its end.
	roundTime  = time.Second
	roundLooks = 8
	// lookTime bounds one look; looksAtOnce is how many there are at the same time, so that some that take long hold up
	// no others.
	lookTime    = 2 * time.Second
	looksAtOnce = 16
	// againTime is the time between two attempts to listen.
	againTime = time.Second
)

// Tracker knows the endpoints. driver.Driver is one.
type Tracker interface {
	Endpoints() []driver.Endpoint
	// ByHostEnd returns the endpoint whose host end has this name, with its network.
	ByHostEnd(name string) (driver.Network, driver.Endpoint, bool)
}

// Change is drift that there was not before, or that is over.
type Change struct {
	Endpoint driver.Endpoint
	Drift    api.Drift
	Over     bool       // there is none any more
	Cause    *api.Cause // nil: it is not known
}

// Watcher tells of drift in sandboxes when the kernel tells of the change that has made it. What is drift it finds by a
// look, not by the event: what weave and Docker change themselves is as it should be. Drift of an endpoint that has
// left its sandbox is forgotten.
type Watcher struct {
	inspector *Inspector
	tracker   Tracker
	tell      func(Change)
	found     problems.List

	// What follows is Run's own.
	ends   map[int]*end   // veth ends on the host, by index
	inside map[place]*end // likewise, by where their other ends are
	due    map[*end]bool  // those that are to be looked at
	looked chan look      // those that have ended
	looks  int            // that are under way
}

// place is where a link is: the id of its namespace, and its index there.
type place struct{ namespace, index int }

// end is a veth end on the host, of weave's or not.
type end struct {
	index int
	name  string
	other place

	wasUp  bool // the container end has been up: Docker has set its addresses
	routed bool // a default route has been there
	fell   bool // it has been down since the last look at its routes, which go then without an event
	told   []api.Drift

	heard map[uint16]uint32 // since the last look: types of events, and the netlink ports that they came from
	due   time.Time         // of the next look, if there is one to come
	busy  bool              // there is one now
	round time.Time         // begin of the present round
	looks int               // in this round
}

// look is what was found of an end.
type look struct {
	end   *end
	heard map[uint16]uint32 // what it was because of
	ep    driver.Endpoint
	drift []api.Drift
	left  bool // it is in no sandbox
	known bool // it could be looked at
}

// NewWatcher returns a Watcher, which calls tell for each change, from one goroutine.
func NewWatcher(i *Inspector, t Tracker, tell func(Change)) *Watcher {
	return &Watcher{inspector: i, tracker: t, tell: tell}
}

// Problem returns why drift is not told; empty: it is.
func (w *Watcher) Problem() []string { return w.found.Get() }

// Run watches until ctx ends. Where the kernel does not let it listen it gives up, which Problem tells.
func (w *Watcher) Run(ctx context.Context) {
	told := map[string][]api.Drift{} // before events were missed, by host end
	for {
		err := w.follow(ctx, told)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, unix.EPERM) {
			w.found.Set([]string{"what is changed in containers is not told in `weave events`, since weave lacks " +
				"CAP_NET_BROADCAST: " + err.Error() + "; a managed plugin is granted it by `docker plugin upgrade`, " +
				"elsewhere the systemd unit has to allow it"}, w.inspector.log)
			return
		}
		w.inspector.log.WithError(err).Warn("events in containers: listening again")
		for _, e := range w.ends {
			told[e.name] = e.told
		}
		if !wait.For(ctx, againTime) {
			return
		}
	}
}

// follow listens, looks at every endpoint, and then at those that events are about.
func (w *Watcher) follow(ctx context.Context, told map[string][]api.Drift) error {
	listener, err := rtnl.Listen()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer wait.CloseAfter(ctx, listener)()
	w.ends, w.inside, w.due, w.looked = map[int]*end{}, map[place]*end{}, map[*end]bool{}, make(chan look)
	defer func() {
		cancel()
		for ; w.looks > 0; w.looks-- {
			<-w.looked
		}
	}()
	w.placeAll(told)
	heard, failed := make(chan rtnl.Event, 1024), make(chan error, 1)
	go func() {
		for {
			err := listener.Receive(func(e rtnl.Event) {
				select {
				case heard <- e:
				case <-ctx.Done():
				}
			})
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	for {
		timer := time.NewTimer(w.startLooks(ctx))
		select {
		case e := <-heard:
			w.hear(e)
		case l := <-w.looked:
			w.end(l)
		case err = <-failed:
		case <-timer.C:
		}
		timer.Stop()
		if err != nil {
			return err
		}
	}
}

// placeAll finds the other ends of the host ends of all endpoints, and has those that are up be looked at.
func (w *Watcher) placeAll(told map[string][]api.Drift) {
	for _, ep := range w.tracker.Endpoints() {
		link, err := netlink.LinkByName(ep.HostEnd)
		if err != nil {
			continue // it is gone, which the driver tells
		}
		a := link.Attrs()
		e := w.place(a.Index, ep.HostEnd, place{a.NetNsID, a.ParentIndex})
		if e == nil {
			continue
		}
		e.told = told[ep.HostEnd]
		if ep.State() == driver.Up {
			e.wasUp, e.routed = true, true // nothing tells of the routes, but none is missing as far as is known
			w.schedule(e)
		}
	}
}

// place notes where the other end of a link is, if that is a veth end, otherwise it returns nil.
func (w *Watcher) place(index int, name string, other place) *end {
	e := w.ends[index]
	if other.index == 0 {
		return nil
	}
	if e == nil || e.name != name {
		w.forget(index)
		e = &end{index: index, name: name}
		w.ends[index] = e
	}
	if e.other != other {
		w.displace(e)
		e.other = other
		if other.namespace != rtnl.Here {
			w.inside[other] = e
		}
	}
	return e
}

// displace notes that nothing is known of where the other end of a veth end is.
func (w *Watcher) displace(e *end) {
	if w.inside[e.other] == e {
		delete(w.inside, e.other)
	}
}

func (w *Watcher) forget(index int) {
	e := w.ends[index]
	if e == nil {
		return
	}
	delete(w.ends, index)
	delete(w.due, e)
	w.displace(e)
}

// hear notes what an event is about.
func (w *Watcher) hear(e rtnl.Event) {
	isRoute := e.Type == unix.RTM_NEWROUTE || e.Type == unix.RTM_DELROUTE
	switch {
	case e.NSID == rtnl.Here && e.Type == unix.RTM_DELLINK:
		w.forget(e.Link)
	case e.NSID == rtnl.Here && e.Type == unix.RTM_NEWLINK:
		w.hearHere(e)
	case e.NSID == rtnl.Here:
	case isRoute:
		for _, end := range w.ends {
			switch {
			case end.other.namespace != e.NSID:
			case !end.routed:
				end.routed = e.Type == unix.RTM_NEWROUTE // it is Docker that adds the first one
			default:
				w.note(end, e)
			}
		}
	default:
		if end := w.inside[place{e.NSID, e.Link}]; end != nil {
			w.note(end, e)
		}
	}
}

// hearHere notes what an event about a link on the host tells of its other end.
func (w *Watcher) hearHere(e rtnl.Event) {
	var before place
	if end := w.ends[e.Link]; end != nil {
		before = end.other
	}
	end := w.place(e.Link, e.Name, place{e.PeerNSID, e.Peer})
	switch {
	case end == nil:
	case e.Carrier && e.PeerNSID != rtnl.Here && !end.wasUp:
		end.wasUp = true
		if len(end.told) > 0 {
			w.note(end, e)
		}
	case end.wasUp && (!e.Carrier || end.other != before):
		end.fell = true
		w.note(end, e)
		end.wasUp = end.other == before // elsewhere it has to come up first
	}
}

// note has an end be looked at because of an event, once Docker has set it up.
func (w *Watcher) note(e *end, event rtnl.Event) {
	if !e.wasUp && len(e.told) == 0 {
		return
	}
	if e.heard == nil {
		e.heard = map[uint16]uint32{}
	}
	e.heard[event.Type] = event.Port
	w.schedule(e)
}

// schedule has an end be looked at soon.
func (w *Watcher) schedule(e *end) {
	if w.due[e] {
		return
	}
	w.due[e] = true
	now := time.Now()
	if now.Sub(e.round) >= roundTime {
		e.round, e.looks = now, 0
	}
	e.looks++
	e.due = now.Add(settleTime)
	if e.looks > roundLooks {
		e.due = e.round.Add(roundTime)
	}
}

// startLooks starts the looks that are due, and returns the time until the next one is.
func (w *Watcher) startLooks(ctx context.Context) time.Duration {
	next := time.Hour
	for e := range w.due {
		if e.busy || w.looks == looksAtOnce {
			continue // the end of a look leads here again
		}
		if left := time.Until(e.due); left > 0 {
			next = min(next, left)
			continue
		}
		l := look{end: e, heard: e.heard}
		checkRoutes := e.routed && e.mayLackRoutes()
		delete(w.due, e)
		e.heard, e.fell, e.busy = nil, false, true
		w.looks++
		go func() {
			ctx, cancel := context.WithTimeout(ctx, lookTime)
			defer cancel()
			w.look(ctx, &l, checkRoutes)
			w.looked <- l
		}()
	}
	return next
}

// mayLackRoutes reports whether default routes may have gone, or may be back.
func (e *end) mayLackRoutes() bool {
	_, removed := e.heard[unix.RTM_DELROUTE]
	_, without := e.heard[unix.RTM_DELADDR] // the gateway may be out of reach then
	return removed || without || e.fell ||
		slices.ContainsFunc(e.told, func(d api.Drift) bool { return d.Kind == api.RouteMissing })
}

// look looks at the endpoint of an end. Only drift that differs from its record both before and after counts: Docker
// may be changing it.
func (w *Watcher) look(ctx context.Context, l *look, routes bool) {
	nw, before, ok := w.tracker.ByHostEnd(l.end.name)
	if l.left = !ok || before.Sandbox == ""; l.left {
		return
	}
	o, err := w.inspector.observeOne(ctx, before)
	if err != nil || o.Err != nil {
		return // the sandbox is about to go, or there will be another event
	}
	var missing []api.Drift
	if routes && before.External {
		if missing, err = w.inspector.missingRoutes(ctx, before); err != nil {
			return
		}
	}
	_, now, ok := w.tracker.ByHostEnd(l.end.name)
	if !ok || now.ID != before.ID || now.Sandbox == "" {
		return
	}
	l.ep, l.known = now, true
	l.drift = slices.DeleteFunc(Lasting(Drift(nw, before, o), Drift(nw, now, o)), func(d api.Drift) bool {
		_, isInside := messages[d.Kind]
		return !isInside
	})
	switch {
	case routes && now.External:
		l.drift = append(l.drift, missing...)
	case now.External: // nothing was heard by which they may have changed
		for _, d := range l.end.told {
			if d.Kind == api.RouteMissing {
				l.drift = append(l.drift, d)
			}
		}
	}
}

// end tells what is new of a look that has ended.
func (w *Watcher) end(l look) {
	w.looks--
	e := l.end
	e.busy = false
	if w.ends[e.index] != e {
		return // it has left meanwhile
	}
	if l.left {
		e.told = nil
	}
	if !l.known {
		return
	}
	for _, d := range l.drift {
		if !slices.Contains(e.told, d) {
			w.tell(Change{Endpoint: l.ep, Drift: d, Cause: causeOf(messages[d.Kind].found, l.heard)})
		}
	}
	for _, d := range e.told {
		if !slices.Contains(l.drift, d) {
			w.tell(Change{Endpoint: l.ep, Drift: d, Over: true, Cause: causeOf(messages[d.Kind].over, l.heard)})
		}
	}
	e.told = l.drift
}

// messages are the kinds of drift in a sandbox, with the kernel's messages about changes by which it comes and goes.
var messages = map[api.DriftKind]struct{ found, over []uint16 }{
	api.ContainerEndMissing: {[]uint16{unix.RTM_DELLINK, unix.RTM_NEWLINK}, []uint16{unix.RTM_NEWLINK}},
	api.ContainerEndDown:    {[]uint16{unix.RTM_NEWLINK}, []uint16{unix.RTM_NEWLINK}},
	api.MACChanged:          {[]uint16{unix.RTM_NEWLINK}, []uint16{unix.RTM_NEWLINK}},
	api.AddressMissing:      {[]uint16{unix.RTM_DELADDR}, []uint16{unix.RTM_NEWADDR}},
	api.AddressUnexpected:   {[]uint16{unix.RTM_NEWADDR}, []uint16{unix.RTM_DELADDR}},
	api.RouteMissing: {
		[]uint16{unix.RTM_DELROUTE, unix.RTM_NEWLINK, unix.RTM_DELADDR}, []uint16{unix.RTM_NEWROUTE},
	},
}

// messageNames are the names of the kernel's messages.
var messageNames = map[uint16]string{
	unix.RTM_NEWLINK: "RTM_NEWLINK", unix.RTM_DELLINK: "RTM_DELLINK",
	unix.RTM_NEWADDR: "RTM_NEWADDR", unix.RTM_DELADDR: "RTM_DELADDR",
	unix.RTM_NEWROUTE: "RTM_NEWROUTE", unix.RTM_DELROUTE: "RTM_DELROUTE",
}

// causeOf returns the first of the messages that was heard as a cause, nil if none was.
func causeOf(messages []uint16, heard map[uint16]uint32) *api.Cause {
	for _, m := range messages {
		if port, ok := heard[m]; ok {
			return &api.Cause{Kind: api.CauseNetlink, Call: messageNames[m], Port: port}
		}
	}
	return nil
}
