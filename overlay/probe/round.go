// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/overlay"
)

// tries is how often a request is sent in a round, as long as no good answer comes.
const tries = 3

// pace is how often what is done.
type pace struct {
	interval time.Duration // between two rounds
	again    time.Duration // likewise, as long as something is wrong
	answer   time.Duration // how long an answer may take
	patience time.Duration // see Options.Patience
	open     time.Duration // between two attempts to make the device
	// entered is how long a row in the device's table is taken to be there. Then it is entered again, for what somebody
	// may have removed.
	entered time.Duration
}

// usual is the pace in real life.
func usual(patience time.Duration) pace {
	return pace{
		interval: 30 * time.Second, again: 10 * time.Second, answer: time.Second, patience: patience,
		open: 5 * time.Second, entered: 30 * time.Second,
	}
}

// peer is another host and how far its round is.
type peer struct {
	Host
	mac     mac.Address
	entered time.Time // when the device was told where it is; zero: it was not
	twin    string    // another host that has its address, by its name; empty: there is none
	link    string    // that packets there went out of when a fault was found last
	result  Result

	due      time.Time // when the next step is
	begun    time.Time // the round; zero: none runs
	try      uint8     // the number of the last try, from 0
	token    uint64    // of the round
	sent     [tries]time.Time
	outcomes outcomes

	silent time.Time // since when nothing comes in return, or it has a twin; zero: neither is so
	heard  time.Time // when its last request came
}

// update takes over what a host is now. It reports whether it is to be probed at once.
func (pe *peer) update(h Host, now time.Time) bool {
	before := pe.Host
	pe.Host = h
	if before.VTEP != h.VTEP {
		pe.entered = time.Time{}
	}
	if h.MTU == 0 {
		pe.result, pe.begun, pe.silent = Result{}, time.Time{}, time.Time{}
	}
	if h.MTU == 0 || before == h {
		return false
	}
	pe.begun, pe.due = time.Time{}, now
	return true
}

// advance does what is due for a host: it begins a round, sends again what has no good answer, or ends the round. The
// caller holds the lock.
func (p *Prober) advance(pe *peer, now time.Time) error {
	switch {
	case pe.begun.IsZero():
		pe.begun, pe.try, pe.token, pe.outcomes = now, 0, rand.Uint64(), outcomes{}
	case pe.try < tries-1:
		pe.try++
	default:
		p.end(pe, now)
		return nil
	}
	pe.due = now.Add(p.pace.answer)
	pe.sent[pe.try] = now
	for _, request := range pe.requests(p.mac) {
		if err := p.sendTo(pe, request.frame(max(pe.MTU, smallestSize))); err != nil {
			return err
		}
	}
	return nil
}

// requests returns what there is to send in this try: what has no good answer yet.
func (pe *peer) requests(from mac.Address) (out []message) {
	for i, o := range pe.outcomes {
		if !o.isGood() {
			out = append(out, message{from: from, to: pe.mac, shape: uint8(i), try: pe.try, token: pe.token})
		}
	}
	return out
}

// sendTo sends a frame to a host, if the device knows where that is. The caller holds the lock.
func (p *Prober) sendTo(pe *peer, frame []byte) error {
	if p.device == nil || pe.entered.IsZero() {
		return nil
	}
	return p.device.send(frame)
}

// handle handles a frame. The caller holds the lock.
func (p *Prober) handle(b []byte, now time.Time) {
	m, size, spoiled, ok := parse(b)
	if !ok || m.to != p.mac || p.device == nil || size > p.device.MTU {
		return
	}
	pe := p.byMAC[m.from]
	switch {
	case pe == nil: // nobody of the cluster
	case m.answer:
		p.take(pe, m, spoiled, now)
	default:
		pe.heard = now
		if pe.entered.IsZero() {
			p.hurry() // the next try is answered
		}
		if err := p.sendTo(pe, m.answerTo(spoiled).frame(size)); err != nil {
			p.o.Log.WithError(err).WithField("host", pe.Name).Debug("a probe is not answered")
		}
	}
}

// answerTo returns the answer to the request. It is never longer than that.
func (m message) answerTo(spoiled bool) message {
	return message{
		from: m.to, to: m.from, answer: true, shape: m.shape, try: m.try, spoiled: spoiled, token: m.token,
	}
}

// take takes over an answer. The caller holds the lock.
func (p *Prober) take(pe *peer, m message, spoiled bool, now time.Time) {
	o := &pe.outcomes[m.shape]
	if pe.begun.IsZero() || m.token != pe.token || m.try > pe.try || o.isGood() {
		return // late, or nobody's
	}
	*o = outcome{answered: true, spoiledOut: m.spoiled, spoiledIn: spoiled, took: now.Sub(pe.sent[m.try])}
	if pe.outcomes.areGood() {
		p.end(pe, now)
		p.hurry()
	}
}

// end ends a host's round. The caller holds the lock.
func (p *Prober) end(pe *peer, now time.Time) {
	// It may find all well, and ask seldom.
	isHeard := pe.heard.After(pe.silent) && now.Sub(pe.heard) < 2*p.pace.interval
	fault := pe.outcomes.judge(isHeard)
	switch {
	case !sameFamily(pe.VTEP, p.o.Local):
		fault = Family
	case pe.Port != 0 && pe.Port != p.o.Port:
		fault = Port
	case pe.twin != "":
		fault = Address // or this very host, as whom it was there before its state was made anew, until the lease ends
	}
	begun := pe.begun
	pe.begun = time.Time{}
	pe.due = now.Add(jitter(p.pace.again))
	if fault == None {
		pe.due = now.Add(jitter(p.pace.interval))
	}
	since := begun
	if fault == Blocked || fault == BlockedOut || fault == Address {
		if pe.silent.IsZero() {
			pe.silent = begun
		}
		if now.Sub(pe.silent) < p.pace.patience {
			return
		}
		since = pe.silent
	} else {
		pe.silent = time.Time{}
	}
	p.tell(pe, fault, since, now)
}

// tell notes what is known of a host now. The log tells each change. The caller holds the lock.
func (p *Prober) tell(pe *peer, fault Fault, since, now time.Time) {
	before := pe.result
	x := facts{
		host: pe.Host, twin: pe.twin, local: p.o.Local, port: p.o.Port, overhead: overlay.Overhead(p.o.Local),
		outcomes: pe.outcomes,
	}
	if fault != before.Fault && p.device != nil {
		pe.link = p.device.linkTo(pe.Host)
	}
	x.device = cmp.Or(pe.link, "DEVICE")
	pe.result = Result{
		Since: since, Probed: now, RoundTrip: pe.outcomes.roundTrip(), Fault: fault, Text: fault.describe(x),
	}
	if fault == before.Fault && !before.Probed.IsZero() {
		pe.result.Since = before.Since
		return
	}
	log := p.o.Log.WithFields(logrus.Fields{"host": pe.Name, "address": pe.VTEP})
	switch {
	case fault != None:
		log.Warnf("tunnel to host: %s", pe.result.Text)
	case before.Fault != None:
		log.Info("tunnel to host: all frames pass again")
	default:
		log.WithField("roundTrip", pe.result.RoundTrip).Debug("tunnel to host: all frames pass")
	}
}

func sameFamily(a, b netip.Addr) bool { return a.Unmap().Is4() == b.Unmap().Is4() }

// jitter returns a time that is d on average, so that hosts don't probe in step.
func jitter(d time.Duration) time.Duration { return d*4/5 + rand.N(d*2/5+1) }
