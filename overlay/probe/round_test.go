// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
)

var day = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// timeline is a prober without a device on a clock of its own, and one other host.
type timeline struct {
	*testing.T
	*Prober
	now  time.Time
	log  *logtest.Hook
	peer *peer
}

func newTimeline(t *testing.T) *timeline {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	p := New(Options{
		ID: "1", Local: netip.MustParseAddr("192.0.2.1"), Port: 6784, Patience: 35 * time.Second,
		Log: logrus.NewEntry(log),
	})
	p.Set(1450, []Host{{ID: "2", Name: "host2", VTEP: netip.MustParseAddr("192.0.2.2"), MTU: 1450}})
	pe := p.peers["2"]
	pe.due = day
	return &timeline{T: t, Prober: p, now: day, log: hook, peer: pe}
}

// round lets one round pass, in which the other host answers as the letters say: see outcomesOf.
func (l *timeline) round(letters string) {
	l.Helper()
	l.now = l.peer.due
	for l.peer.due.Equal(l.now) || !l.peer.begun.IsZero() {
		l.now = l.peer.due
		l.try(letters)
	}
}

// try does what is due now; what is sent is answered as the letters say.
func (l *timeline) try(letters string) {
	l.Helper()
	if _, err := l.step(l.now); err != nil {
		l.Fatal(err)
	}
	if l.peer.begun.IsZero() { // that was the end of the round
		return
	}
	outcomes := outcomesOf(l.T, letters)
	for _, request := range l.peer.requests(l.mac) {
		if o := outcomes[request.shape]; o.answered {
			l.take(l.peer, request.answerTo(o.spoiledOut), o.spoiledIn, l.now.Add(time.Millisecond))
		}
	}
}

func (l *timeline) is(want Fault) {
	l.Helper()
	if got := l.peer.result.Fault; got != want {
		l.Errorf("after %s: fault %q, want %q", l.now.Sub(day), got, want)
	}
}

const good, nothing, noTCP = "aaaaaaaaa", "---------", "aa-a-a-a-"

// TestRounds: a host that all comes back from is asked seldom, others often; a fault that may be a restart is told only
// when it has lasted; the log has a line for each change.
func TestRounds(t *testing.T) {
	l := newTimeline(t)
	if len(l.Results()) != 0 {
		t.Errorf("results %v before the first round", l.Results())
	}
	l.round(good)
	l.is(None)
	if d := l.peer.due.Sub(l.now); d < 24*time.Second || d > 37*time.Second {
		t.Errorf("the next round is in %s, want some 30 s", d)
	}
	if r := l.Results()["2"]; !r.Since.Equal(day) || r.RoundTrip != time.Millisecond {
		t.Errorf("%+v, want it good since the round's beginning", r)
	}
	l.round(nothing)
	l.is(None)
	silent := l.peer.silent
	if d := l.peer.due.Sub(l.now); d < 8*time.Second || d > 13*time.Second {
		t.Errorf("the next round is in %s, want some 10 s", d)
	}
	l.round(nothing)
	l.is(None)
	l.round(good) // weave was started again there
	l.is(None)
	for range 5 { // at least 5 times 2 s and 4 times 8 s
		l.round(nothing)
	}
	l.is(Blocked)
	if r := l.Results()["2"]; !r.Since.After(silent) || r.Since.After(l.now.Add(-35*time.Second)) {
		t.Errorf("%+v, want it faulty since the first round without an answer", r)
	}
	if got := l.Problems(); len(got) != 1 || !strings.HasPrefix(got[0], "tunnel to host host2 (192.0.2.2): no VXLAN") {
		t.Errorf("problems %q", got)
	}
	l.round(noTCP)
	l.is(Loss)
	l.round(noTCP)
	l.round(good)
	l.is(None)
	if got := l.Problems(); len(got) > 0 {
		t.Errorf("problems %q where there are none any more", got)
	}
	l.round(noTCP)
	l.is(Loss) // at once
	var levels []string
	for _, e := range l.log.AllEntries() {
		levels = append(levels, e.Level.String())
	}
	if want := []string{"warning", "warning", "info", "warning"}; !slices.Equal(levels, want) {
		t.Errorf("log lines %q, want %q", levels, want)
	}
}

// TestHeard: a host whose requests come has a way here, though its answers may have none. What was heard long ago, or
// before the silence, says nothing.
func TestHeard(t *testing.T) {
	l := newTimeline(t)
	l.peer.heard = day.Add(-time.Second)
	for l.peer.result.Fault == None {
		l.round(nothing)
	}
	l.is(Blocked)
	l.peer.heard = l.now
	l.round(nothing)
	l.is(BlockedOut)
	for range 8 {
		l.round(nothing)
	}
	l.is(Blocked)
}

// TestLost: what is lost once or twice in a round is no fault.
func TestLost(t *testing.T) {
	l := newTimeline(t)
	l.now = l.peer.due
	for _, letters := range []string{"a-oa-aaaa", "aaoa-aaaa", good} {
		if !l.peer.result.Probed.IsZero() {
			t.Fatalf("%+v in the midst of a round", l.peer.result)
		}
		l.try(letters)
		l.now = l.peer.due
	}
	l.is(None)
	if l.peer.result.Probed.IsZero() {
		t.Error("the round has not ended with its last answer")
	}
}

// TestForeignAnswers: an answer counts only if it is to what was asked in this round.
func TestForeignAnswers(t *testing.T) {
	l := newTimeline(t)
	answer := message{answer: true, token: l.peer.token}
	l.take(l.peer, answer, false, l.now)
	if _, err := l.step(l.now); err != nil {
		t.Fatal(err)
	}
	l.take(l.peer, message{answer: true, token: l.peer.token + 1}, false, l.now)
	l.take(l.peer, message{answer: true, token: l.peer.token, try: 1}, false, l.now)
	l.take(l.peer, message{answer: true, token: l.peer.token, try: 255}, false, l.now)
	if l.peer.outcomes != (outcomes{}) {
		t.Errorf("outcomes %+v", l.peer.outcomes)
	}
}

// TestSet: only hosts with networks in common are asked, each at once when it comes, and what has gone is forgotten.
func TestSet(t *testing.T) {
	l := newTimeline(t)
	l.round(noTCP)
	host2 := l.peer.Host
	hosts := []Host{host2, {ID: "3", Name: "host3", VTEP: netip.MustParseAddr("192.0.2.3")}}
	due := l.peer.due
	l.Set(1450, hosts)
	if !l.peer.due.Equal(due) {
		t.Error("a host that has not changed is asked at once")
	}
	if _, err := l.step(day.Add(time.Hour)); err != nil || !l.peers["3"].begun.IsZero() {
		t.Errorf("%v; a host that no network is in common with is asked: %t", err, !l.peers["3"].begun.IsZero())
	}
	hosts[1].MTU = 1400
	before := time.Now()
	l.Set(1450, hosts)
	if due := l.peers["3"].due; due.Before(before) || due.After(time.Now()) {
		t.Errorf("the first round is at %s, want it now", due)
	}
	for _, address := range []string{"0.0.0.0", "224.0.0.1"} { // of no host
		h := Host{ID: "4", VTEP: netip.MustParseAddr(address), MTU: 1450}
		l.Set(1450, []Host{host2, h})
		if l.peers["4"].MTU != 0 {
			t.Errorf("a host at %s is asked", address)
		}
	}
	l.peer.entered = day
	host2.VTEP = netip.MustParseAddr("192.0.2.22")
	l.Set(1450, []Host{host2})
	if !l.peer.entered.IsZero() {
		t.Error("a host that has moved is taken to be where it was")
	}
	host2.MTU = 0
	l.Set(1450, []Host{host2})
	if len(l.Results()) > 0 || len(l.Problems()) > 0 || len(l.peers) != 1 || len(l.byMAC) != 1 {
		t.Errorf("results %v and problems %q of hosts that are not asked any more", l.Results(), l.Problems())
	}
}

// TestBudget: a flood is read as fast as the budget says, and leaves none of it to pay for.
func TestBudget(t *testing.T) {
	var b budget
	now, waits := day, 0
	for range 10*framesPerSecond + 1 {
		if d := b.spend(now); d > 0 {
			now, waits = now.Add(d), waits+1
		}
	}
	if now.Sub(day) != 10*time.Second || waits != 10 {
		t.Errorf("%d waits, %s in all, want a second for each budget", waits, now.Sub(day))
	}
	if d := b.spend(now.Add(time.Minute)); d != 0 || b.spent != 1 {
		t.Errorf("after a pause: a wait of %s, %d spent", d, b.spent)
	}
}

// TestNewDevice: nothing is entered on a new device, and what was lost without one is no fault.
func TestNewDevice(t *testing.T) {
	l := newTimeline(t)
	l.round(nothing)
	l.now = l.peer.due
	l.try(nothing)
	l.peer.entered = day
	l.use(nil)
	if pe := l.peer; !pe.entered.IsZero() || !pe.begun.IsZero() || !pe.silent.IsZero() {
		t.Errorf("entered %s, round begun %s, silent since %s, want none of them", pe.entered, pe.begun, pe.silent)
	}
}

// TestFamily: addresses of two versions of IP are a fault at once.
func TestFamily(t *testing.T) {
	l := newTimeline(t)
	l.peer.VTEP = netip.MustParseAddr("2001:db8::2")
	l.round(nothing)
	l.is(Family)
}

// TestPort: a host that takes its packets at another port is told at once, unless its port is not known.
func TestPort(t *testing.T) {
	l := newTimeline(t)
	l.round(nothing)
	l.is(None)
	l.peer.Port = 6785
	l.round(nothing)
	l.is(Port)
	l.peer.Port = 6784
	l.round(good)
	l.is(None)
}

// TestAddress: hosts of one address are a fault, whether this host is one of them or not. It is told when it has
// lasted: this host itself may have been there under another id.
func TestAddress(t *testing.T) {
	host := func(id, address string) Host {
		return Host{ID: id, Name: "host" + id, VTEP: netip.MustParseAddr(address), MTU: 1450}
	}
	for what, tt := range map[string]struct {
		hosts    []Host // host 2 among them
		outcomes string
		twin     string
	}{
		"this host":          {[]Host{host("2", "192.0.2.1")}, nothing, "this host"},
		"another host":       {[]Host{host("2", "192.0.2.2"), host("3", "192.0.2.2")}, nothing, "host3"},
		"the one that is it": {[]Host{host("2", "192.0.2.2"), host("3", "192.0.2.2")}, good, "host3"},
		"two more": {
			[]Host{host("2", "192.0.2.2"), host("4", "192.0.2.2"), host("3", "192.0.2.2")}, nothing, "host3",
		},
	} {
		t.Run(what, func(t *testing.T) {
			l := newTimeline(t)
			l.Set(1450, tt.hosts)
			for id, pe := range l.peers {
				if pe.due = day; id != "2" {
					pe.MTU = 0
				}
			}
			l.round(tt.outcomes)
			l.is(None)
			for l.now.Before(day.Add(time.Minute)) {
				l.round(tt.outcomes)
			}
			l.is(Address)
			if want := "also that of " + tt.twin; !strings.Contains(l.peer.result.Text, want) {
				t.Errorf("%q, want %q in it", l.peer.result.Text, want)
			}
			l.Set(1450, []Host{host("2", "192.0.2.2")})
			l.peer.due = l.now
			l.round(good)
			l.is(None)
		})
	}
}

// TestManyProblems: `weave status` stays short.
func TestManyProblems(t *testing.T) {
	l := newTimeline(t)
	for i := range 1000 {
		id := fmt.Sprint(i + 10)
		l.peers[id] = &peer{Host: Host{ID: id, Name: "h" + id, MTU: 1450}, result: Result{Fault: Loss}}
	}
	got := l.Problems()
	if len(got) != mostTold+1 || !strings.Contains(got[mostTold], "990 more hosts") {
		t.Errorf("%d problems, the last %q", len(got), got[len(got)-1])
	}
}
