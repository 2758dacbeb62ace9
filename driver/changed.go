// SPDX-License-Identifier: Apache-2.0

package driver

import "sync"

// linkID is how an event names a link.
type linkID struct{ name, alias string }

// changedLinks are links that may have been changed.
type changedLinks struct {
	links map[linkID]string // by whom; empty: the kernel does not tell
	full  map[linkID]bool   // those of which the look at one link does not tell all: addresses, ports of others
	all   bool              // any link may have been changed
}

// changes collects changed links until somebody looks at them. Several goroutines may use it.
type changes struct {
	mu    sync.Mutex
	noted changedLinks
	ready chan struct{} // holds a token while there is something to take
}

func newChanges() *changes { return &changes{ready: make(chan struct{}, 1)} }

// note adds a link.
func (c *changes) note(link linkID, by string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noted.links == nil {
		c.noted.links = map[linkID]string{}
	}
	if by != "" || c.noted.links[link] == "" {
		c.noted.links[link] = by
	}
	c.signal()
}

// noteFull adds a link that takes more than a look at the link alone: it may have got an address, or a port that is not
// weave's.
func (c *changes) noteFull(link linkID, by string) {
	c.note(link, by)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.noted.full == nil {
		c.noted.full = map[linkID]bool{}
	}
	c.noted.full[link] = true
	c.signal()
}

// noteAll notes that any link may have been changed: events were lost, or there were none.
func (c *changes) noteAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noted.all = true
	c.signal()
}

func (c *changes) signal() {
	select {
	case c.ready <- struct{}{}:
	default: // a token is there already
	}
}

// take returns what was noted since it was called last.
func (c *changes) take() changedLinks {
	c.mu.Lock()
	defer c.mu.Unlock()
	noted := c.noted
	c.noted = changedLinks{}
	return noted
}
