// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

const (
	// historyRounds is the environment variable with the number of rounds, each with one fault.
	historyRounds  = "WEAVE_HISTORY_ROUNDS"
	fewRounds      = 8
	clientsPerHost = 2
	callsPerRound  = 30 // of each client, at most
)

// TestAddressesHaveOneOwner: while clients on three hosts request and release the addresses of one small pool, and the
// network between them, weave and etcd fail at random, no address is ever handed out that somebody has. Afterwards one
// host gets all of them.
func TestAddressesHaveOneOwner(t *testing.T) {
	t.Parallel()
	rounds := number(t, historyRounds, fewRounds)
	c := startBareHosts(t, 3, netip.MustParsePrefix("10.72.0.0/28"))
	history := &history{start: time.Now(), held: map[heldAddress]bool{}}
	var clients []*client
	for i := range clientsPerHost * len(c.bare) {
		clients = append(clients, &client{
			id: i, host: c.bare[i%len(c.bare)], random: c.network.Random(fmt.Sprintf("client %d", i)), history: history,
		})
	}
	faults := &faults{bareHosts: c, random: c.network.Random("faults"), begun: map[string]int{}}
	for range rounds {
		faults.round(t, clients)
	}
	t.Logf("%v; %s", faults.begun, history.summary())
	for _, finding := range history.check() {
		t.Error(finding)
	}
	c.collectAll(t)
}

// faults makes one fault in each round of calls. It measures time by the calls that were made, or left out: so no fault
// is over before anybody could notice, and none lasts longer than its round.
type faults struct {
	*bareHosts
	random *rand.Rand
	begun  map[string]int // counts, by kind
}

// round has each client make some calls, all at once, while a fault begins and ends.
func (f *faults) round(t *testing.T, clients []*client) {
	t.Helper()
	calls := len(clients) * callsPerRound
	begin := 1 + f.random.IntN(len(clients))
	end := begin + 1 + f.random.IntN(calls-begin)
	made := make(chan struct{}, calls) // so that no client waits for the faults
	var working sync.WaitGroup
	for _, client := range clients {
		working.Go(func() {
			goesOn := true
			for range callsPerRound {
				goesOn = goesOn && client.step()
				made <- struct{}{}
			}
		})
	}
	for i := range calls {
		<-made
		if i+1 == begin {
			f.begin(t)
		}
		if i+1 == end {
			f.network.Heal()
		}
	}
	working.Wait()
}

// begin begins a fault, or does what is over at once.
func (f *faults) begin(t *testing.T) {
	t.Helper()
	i, j := f.random.IntN(len(f.bare)), f.random.IntN(len(f.bare))
	a, b := f.bare[i].Name(), f.bare[j].Name()
	kinds := []string{"etcd cut", "host cut", "hosts apart", "etcd slow", "lossy", "weave killed", "etcd killed"}
	kind := kinds[f.random.IntN(len(kinds))]
	f.begun[kind]++
	switch kind {
	case "etcd cut":
		f.network.Between(a, lab.Outside, lab.Cut)
	case "host cut":
		f.network.Between(a, lab.Any, lab.Cut)
	case "hosts apart":
		f.network.Between(a, b, lab.Cut)
	case "etcd slow":
		f.network.Between(lab.Any, lab.Outside, lab.Faults{Delay: 30 * time.Millisecond})
	case "lossy":
		f.network.Between(lab.Any, lab.Any, lab.Faults{Drop: 0.03, Duplicate: 0.1, Reorder: 0.1})
	case "weave killed":
		f.plugins[i].Restart(t)
	case "etcd killed":
		f.etcd.Kill()
		f.etcd.Start(t)
	}
}

// collectAll requests all addresses of the pool from one host, which the others have to give back.
func (c *bareHosts) collectAll(t *testing.T) {
	t.Helper()
	var free []netip.Addr // that can be handed out: not the first, which is the gateway's
	for a := c.subnet.Addr().Next().Next(); c.subnet.Contains(a.Next()); a = a.Next() {
		free = append(free, a)
	}
	for _, h := range c.bare {
		for _, a := range free { // what clients have kept, and what weave has recorded and could not answer
			if err := h.release(a); err != nil {
				t.Error(err)
			}
		}
	}
	got := map[netip.Addr]bool{}
	for range free {
		lab.Eventually(t, 30*time.Second, fmt.Sprintf("one more address than %d", len(got)), func() error {
			a, err := c.bare[0].request(netip.Addr{})
			if err == nil {
				got[a.Addr()] = true
			}
			return err
		})
	}
	if len(got) != len(free) {
		t.Errorf("one host gets %d different addresses, want %d", len(got), len(free))
	}
	for a := range got {
		if err := c.bare[0].release(a); err != nil {
			t.Error(err)
		}
	}
}

// client requests and releases addresses on one host, one call at a time.
type client struct {
	id      int
	host    *bareHost
	random  *rand.Rand
	history *history
	held    []netip.Addr
}

// mostHeld is how many addresses a client holds: all clients together nearly all of them.
const mostHeld = 2

// step makes a call. It reports whether the client goes on in this round: one that gets no address does not, since it
// would wait for the other hosts again and again while the fault lasts.
func (c *client) step() bool {
	// While its weave is restarted the client waits, instead of spending its calls.
	if err := lab.Poll(10*time.Second, c.host.isServed); err != nil {
		c.history.note(err)
		return false
	}
	if n := len(c.held); n == mostHeld || n > 0 && c.random.IntN(3) == 0 {
		i := c.random.IntN(n)
		a := c.held[i]
		c.held = slices.Delete(c.held, i, i+1)
		c.history.release(c, a)
		return true
	}
	name := c.host.subnet.Addr().Next().Next() // which everybody wants
	// An address that a host has had for long without an endpoint it hands out again to who names it: Docker has
	// forgotten it.
	if c.random.IntN(4) > 0 || c.history.isHeld(c.host, name) {
		name = netip.Addr{}
	}
	a, ok := c.history.request(c, name)
	if ok {
		c.held = append(c.held, a)
	}
	return ok
}
