// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// TestContestPauses: a property is put right at once a few times, then after longer and longer pauses, and after a long
// peace at once again; what could not be put right is tried again after pauses from the first time on.
func TestContestPauses(t *testing.T) {
	s := step{action: ensureBridge, network: madeNetwork(), flaws: []flaw{{"mtu", "mtu 1400, not 1500"}}}
	for _, tt := range []struct {
		name string
		err  error
		want []time.Duration
	}{
		{"contested", nil, []time.Duration{0, 0, 0, time.Second, 2 * time.Second, 4 * time.Second}},
		{"failed", errors.New("busy"), []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}},
	} {
		c := contests{list: map[propertyOf]contest{}}
		now := time.Unix(1e9, 0)
		var pauses []time.Duration
		for range len(tt.want) {
			c.attempted(s, "", tt.err, now)
			steps, next := c.hold([]step{s}, now)
			pause := time.Duration(0)
			if len(steps) == 0 {
				pause = next.Sub(now)
			}
			pauses = append(pauses, pause)
			now = now.Add(pause)
		}
		if !slices.Equal(pauses, tt.want) {
			t.Errorf("%s: pauses %v, want %v", tt.name, pauses, tt.want)
		}
		for range 20 {
			c.attempted(s, "", tt.err, now)
		}
		if _, next := c.hold([]step{s}, now); next.Sub(now) != longestPause {
			t.Errorf("%s: the longest pause is %v, want %v", tt.name, next.Sub(now), longestPause)
		}
		now = now.Add(peaceTime + 1)
		c.attempted(s, "", nil, now)
		if steps, _ := c.hold([]step{s}, now); len(steps) != 1 {
			t.Errorf("%s: held back after a long peace", tt.name)
		}
	}
}

// TestContestedPropertyIsLeftOut: only the contested property of a link waits.
func TestContestedPropertyIsLeftOut(t *testing.T) {
	c := contests{list: map[propertyOf]contest{}}
	now := time.Unix(1e9, 0)
	mtu := step{action: ensureBridge, network: madeNetwork(), flaws: []flaw{{"mtu", "mtu 1400, not 1500"}}}
	for range patience + 1 {
		c.attempted(mtu, "", nil, now)
	}
	both := mtu
	both.flaws = append(slices.Clone(mtu.flaws), flaw{"up", "down"})
	steps, next := c.hold([]step{both, mtu}, now)
	if len(steps) != 1 || !slices.Equal(steps[0].held, []string{"mtu"}) || next != now.Add(firstPause) {
		t.Errorf("steps %+v, next %v, want one that leaves out the mtu", steps, next)
	}
	if !steps[0].leavesOut("mtu") || steps[0].leavesOut("up") {
		t.Errorf("%+v: want only the mtu left out", steps[0])
	}
}

// TestFailureIsNoContest: what could not be put right for a while, and then could, was no contest.
func TestFailureIsNoContest(t *testing.T) {
	s := step{action: ensureBridge, network: madeNetwork(), flaws: []flaw{{"mtu", "mtu 1400, not 1500"}}}
	c := contests{list: map[propertyOf]contest{}}
	now := time.Unix(1e9, 0)
	for range 2 * patience {
		c.attempted(s, "", errors.New("busy"), now)
	}
	c.attempted(s, "", nil, now)
	if steps, _ := c.hold([]step{s}, now); len(steps) != 1 {
		t.Error("it is held")
	}
	if found := c.problems(now); len(found) != 0 {
		t.Errorf("problems %v", found)
	}
}
