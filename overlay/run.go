// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/announce"
	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// settleTime is from a change to the round that programs it: changes come in bursts.
	settleTime = 5 * time.Millisecond
	// fullInterval is between two comparisons of everything.
	fullInterval = time.Minute
	// firstPause is before what went wrong is tried again. It doubles each time, up to fullInterval.
	firstPause = time.Second
	// mostCompared is how many networks are compared in one round because of nothing but the time: what changes
	// meanwhile waits for the end of the round.
	mostCompared = 100
	// mostAnnounced is how many addresses are announced to the containers at once. More come together when a host
	// joins or returns, rather than when an endpoint moves.
	mostAnnounced = 1000
)

// Run programs the networks until ctx ends. What fails is logged and tried again.
func (o *Overlay) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() { o.watch(ctx) })
	defer watching.Wait()
	p := programmer{o: o}
	defer p.close()
	tick := time.NewTicker(fullInterval)
	defer tick.Stop()
	pause := firstPause
	var again <-chan time.Time // nil: nothing has to be tried again
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			o.Resync()
		case <-again:
			again = nil
			o.distrust(func(nw *network) bool { return nw.failed })
		case <-o.kick:
			if !wait.For(ctx, settleTime) {
				return nil
			}
			switch failed := p.round(ctx); {
			case !failed:
				again, pause = nil, firstPause
			case again == nil:
				again, pause = time.After(pause), min(2*pause, fullInterval)
			}
		}
	}
}

// programmer programs the networks. One goroutine uses it.
type programmer struct {
	o      *Overlay
	c      *conn            // nil: none
	sender *announce.Sender // of announcements; nil: there was none yet
}

func (p *programmer) close() {
	p.hangUp()
	if p.sender != nil {
		p.sender.Close()
	}
}

func (p *programmer) connect() (err error) {
	if p.c == nil {
		p.c, err = dial()
	}
	return err
}

func (p *programmer) hangUp() {
	if p.c != nil {
		p.c.close()
		p.c = nil
	}
}

// task is what a round has to do for a network.
type task struct {
	*network
	want    Entries
	links   links
	changed bool
	stale   bool
	lost    []Entry
}

// round programs the networks that something has changed for. It reports whether one has to be tried again.
func (p *programmer) round(ctx context.Context) (failed bool) {
	var stale []task
	for _, t := range p.take() {
		l, err := t.find()
		p.place(t.network, l) // before the look, so that no event about a row is missed
		if err != nil {       // an event tells when they are there
			t.kernel = nil
			p.note(t, err.Error(), false)
			continue
		}
		t.stale = t.stale || t.kernel == nil || l != t.links
		t.links = l
		if t.stale {
			stale = append(stale, t)
			continue
		}
		problem, err := p.program(ctx, t, nil)
		p.finish(ctx, t, problem, err)
	}
	p.compare(ctx, stale)
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	close(p.o.round)
	p.o.round = make(chan struct{})
	for _, nw := range p.o.networks {
		failed = failed || nw.failed
	}
	return failed
}

// take returns what there is to do. Of the networks that have only to be compared it leaves some for the next round.
func (p *programmer) take() []task {
	p.o.mu.Lock()
	defer p.o.mu.Unlock()
	var tasks []task
	add := func(nw *network) {
		tasks = append(tasks, task{nw, nw.want, nw.links, nw.changed, nw.stale, nw.lost})
		nw.dirty, nw.changed, nw.stale, nw.lost = false, false, false, nil
	}
	var toCompare []*network
	for _, nw := range p.o.networks {
		switch {
		case nw.dirty && nw.stale && !nw.changed:
			toCompare = append(toCompare, nw)
		case nw.dirty:
			add(nw)
		}
	}
	for _, nw := range toCompare[:min(len(toCompare), mostCompared)] {
		add(nw)
	}
	if len(toCompare) > mostCompared {
		p.o.hurry()
	}
	return tasks
}

// place notes which links a network has.
func (p *programmer) place(nw *network, l links) {
	o := p.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if l == nw.links || o.networks[nw.key] != nw { // set anew with other links meanwhile
		return
	}
	delete(o.byIndex, nw.links.device)
	delete(o.byIndex, nw.links.bridge)
	nw.links = l
	if l != (links{}) {
		o.byIndex[l.device], o.byIndex[l.bridge] = nw, nw
	}
}

// note notes how the work on a network ended.
func (p *programmer) note(t task, problem string, failed bool) {
	o := p.o
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.networks[t.key] != t.network {
		return // set anew with other links meanwhile
	}
	log := o.log.WithField("network", t.key)
	switch {
	case problem != "" && problem != t.problem && !t.gone:
		level := logrus.WarnLevel
		if !failed { // its links are missing, which are being removed or made
			level = logrus.DebugLevel
		}
		log.Logf(level, "not programmed for the other hosts' endpoints: %s", problem)
	case problem == "" && t.problem != "":
		log.Info("programmed for the other hosts' endpoints again")
	}
	t.problem, t.failed = problem, failed
	t.isProgrammed = problem == "" && !t.dirty
	t.network.stale = t.network.stale || problem != ""
	if t.gone && !t.dirty && !failed {
		o.forget(t.network)
	}
}

// find returns the indexes of the network's links, or why it can't be programmed.
func (nw *network) find() (links, error) {
	device, err := netlink.LinkByName(nw.device)
	if err != nil {
		return links{}, fmt.Errorf("look up VXLAN device %s: %w", nw.device, err)
	}
	bridge, err := netlink.LinkByName(nw.bridge)
	if err != nil {
		return links{}, fmt.Errorf("look up bridge %s: %w", nw.bridge, err)
	}
	if device.Attrs().MasterIndex != bridge.Attrs().Index {
		return links{}, fmt.Errorf("VXLAN device %s is no port of bridge %s", nw.device, nw.bridge)
	}
	return links{device.Attrs().Index, bridge.Attrs().Index}, nil
}

// compare looks at what the kernel has for networks, and programs them.
func (p *programmer) compare(ctx context.Context, tasks []task) {
	if len(tasks) == 0 {
		return
	}
	bridges := make([]int, len(tasks))
	for i, t := range tasks {
		bridges[i] = t.links.bridge
	}
	neighbours, err := p.neighbours(ctx, bridges)
	for _, t := range tasks {
		if err != nil {
			p.finish(ctx, t, "", err)
			continue
		}
		problem, err := p.program(ctx, t, neighbours[t.links.bridge])
		p.finish(ctx, t, problem, err)
	}
}

func (p *programmer) neighbours(ctx context.Context, bridges []int) (map[int][]row, error) {
	if err := p.connect(); err != nil {
		return nil, err
	}
	return p.c.neighbours(ctx, bridges)
}

// finish notes how the work on a network ended: what problem there is, and an error after which the connection can't be
// used any more.
func (p *programmer) finish(ctx context.Context, t task, problem string, err error) {
	if err != nil {
		p.hangUp()
		problem = err.Error()
	}
	if ctx.Err() == nil {
		p.note(t, problem, problem != "")
	}
}

// program brings the kernel's tables to what the network wants; neighbours are the rows of its bridge's neighbour table
// if it is stale. problem tells what the kernel refuses or what is in the way; the error is one after which the
// connection can't be used any more.
func (p *programmer) program(ctx context.Context, t task, neighbours []row) (problem string, err error) {
	if err := p.connect(); err != nil {
		return "", err
	}
	before := t.kernel
	if t.stale {
		ports, err := p.c.ports(ctx, t.links)
		if err != nil {
			return "", err
		}
		var known Entries
		if before != nil {
			known = before.own
		}
		now := sortOut(slices.Concat(ports, neighbours), t.want, known)
		t.kernel = &now
	}
	var changes []change
	var problems []string
	if t.changed || t.stale {
		changes, problems = plan(t.want, *t.kernel)
	}
	if !t.stale {
		changes = append(changes, putBack(t.want, t.lost)...)
	}
	refused := Entries{}
	err = p.c.apply(ctx, t.links, changes, func(ch change, err error) {
		if refused.add(ch.Entry); len(refused) == 1 {
			problems = append(problems, refusal(ch, err))
		}
	})
	if len(refused) > 1 {
		problems = append(problems, fmt.Sprintf("%d entries are refused", len(refused)))
	}
	if err != nil {
		return "", err
	}
	if before != nil {
		if err := p.announce(t.links.bridge, moved(changes, before.own, refused)); err != nil {
			log := p.o.log.WithField("network", t.key)
			log.WithError(err).Warn("containers may take a while to find those that have moved")
		}
	}
	if len(problems) == 0 {
		t.kernel = &tables{t.want, t.kernel.foreign}
	}
	return strings.Join(problems, "; "), nil
}

// putBack returns the changes that put back what is still wanted of the entries that somebody has removed.
func putBack(want Entries, lost []Entry) []change {
	var out []change
	for _, e := range lost {
		if want.has(e) {
			out = append(out, change{Entry: e})
		}
	}
	return out
}

// moved returns the addresses that have been entered since the network was programmed first: each may have been that of
// another endpoint, here or elsewhere. What was only put back is not among them, nor what the kernel has refused.
func moved(changes []change, before, refused Entries) []Entry {
	var out []Entry
	for _, ch := range changes {
		if ch.Table == Neighbour && !ch.remove && !before.has(ch.Entry) && !refused.has(ch.Entry) {
			out = append(out, ch.Entry)
		}
	}
	return out[:min(len(out), mostAnnounced)]
}

// refusal tells why an entry could not be changed.
func refusal(ch change, err error) string {
	if ch.Address.Is6() && ch.Table == Neighbour && errors.Is(err, unix.EINVAL) {
		return fmt.Sprintf("%s: refused, as if IPv6 were off on the bridge (disable_ipv6)", ch.Entry)
	}
	return fmt.Sprintf("%s: %v", ch.Entry, err)
}
