// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"maps"
	"sync"
	"time"
)

const (
	// A property that was put right patience times is contested: another program changes it again and again. It is
	// then left as it is for a while, after each time for longer, up to longestPause.
	patience     = 3
	firstPause   = time.Second
	longestPause = time.Minute
	// peaceTime after it was last put right, a property counts as never contested.
	peaceTime = 5 * longestPause
)

// contests are the properties of links that weave has put right lately. Several goroutines may use them.
type contests struct {
	mu   sync.Mutex
	list map[propertyOf]contest
}

// propertyOf names a property of a link.
type propertyOf struct{ subject, property string }

type contest struct {
	times int       // how often weave has put it right, or tried to
	last  time.Time // when it did so last
	until time.Time // until then it is left as it is
	by    string    // who changed it, if that is known
	err   error     // why it could not be put right the last time
}

// attempted records that the flaws of a link were put right or, with an error, that it failed. By says who gave the
// link its addresses, if that is known.
func (c *contests) attempted(s step, by string, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.list, func(_ propertyOf, x contest) bool { return now.Sub(x.last) > peaceTime })
	for _, f := range s.flaws {
		if s.leavesOut(f.property) {
			continue
		}
		key := propertyOf{s.subject(), f.property}
		x := c.list[key]
		if x.err != nil && err == nil {
			x.times = 0 // it was no contest, it could not be done
		}
		x.times, x.last, x.err = x.times+1, now, err
		if by != "" && f.property == addressesProperty {
			x.by = by
		}
		x.until = now.Add(x.pause())
		c.list[key] = x
	}
}

// pause returns how long the property is left as it is now.
func (x contest) pause() time.Duration {
	rounds := x.times - patience
	if x.err != nil {
		rounds = x.times
	}
	if rounds <= 0 {
		return 0
	}
	return min(firstPause<<min(rounds-1, 16), longestPause)
}

// hold returns the steps with what they are to leave as it is, without those that would do nothing then, and when the
// first of it may be put right; zero: nothing is held.
func (c *contests) hold(steps []step, now time.Time) (out []step, next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range steps {
		for _, f := range s.flaws {
			until := c.list[propertyOf{s.subject(), f.property}].until
			if !until.After(now) {
				continue
			}
			s.held = append(s.held, f.property)
			if next.IsZero() || until.Before(next) {
				next = until
			}
		}
		if len(s.flaws) == 0 || len(s.held) < len(s.flaws) {
			out = append(out, s)
		}
	}
	return out, next
}

// reason tells why a flaw is still there; empty: it is about to be put right.
func (c *contests) reason(subject string, f flaw) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch x := c.list[propertyOf{subject, f.property}]; {
	case x.err != nil:
		return fmt.Sprintf("%s could not be put right, and is tried again: %v", f.text, x.err)
	case x.times > patience:
		return f.text + ": " + x.story()
	}
	return ""
}

// problems returns what is contested now.
func (c *contests) problems(now time.Time) []problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []problem
	for key, x := range c.list {
		if x.err == nil && x.times > patience && now.Sub(x.last) < peaceTime {
			out = append(out, problem{key.subject, fmt.Errorf("%s: %s", key.property, x.story())})
		}
	}
	return out
}

// story tells of a contest.
func (x contest) story() string {
	who := "another program"
	if x.by != "" {
		who = "another program, perhaps " + x.by + ","
	}
	return fmt.Sprintf("%s changes it again and again: weave has put it right %d times, and does so once a minute at "+
		"most; tell that program to leave the link alone", who, x.times)
}
