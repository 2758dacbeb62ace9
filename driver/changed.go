// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"sync"

	"github.com/weaveplugin/weave/internal/wait"
)

// linkID is how an event names a link.
type linkID struct{ name, alias string }

// changedLinks are links that may have been changed.
type changedLinks struct {
	links map[linkID]bool
	all   bool              // any link may have been changed
	full  map[string]bool   // by name, those of which a look at the link does not tell all: addresses, ports of others
	by    map[string]string // who gave a link an address, where that is known
}

func noChangedLinks() changedLinks {
	return changedLinks{links: map[linkID]bool{}, full: map[string]bool{}, by: map[string]string{}}
}

// changes collects changed links until somebody looks at them. Several goroutines may use it.
type changes struct {
	mu    sync.Mutex
	noted changedLinks
	ready chan struct{} // holds a token while there is something to take
}

func newChanges() *changes { return &changes{noted: noChangedLinks(), ready: make(chan struct{}, 1)} }

// note adds a link.
func (c *changes) note(link linkID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noted.links[link] = true
	c.signal()
}

// noteFull adds a link that takes more than a look at the link alone: it may have got an address, from whom if that is
// known, or a port that is not weave's.
func (c *changes) noteFull(link linkID, by string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noted.links[link] = true
	c.noted.full[link.name] = true
	if by != "" {
		c.noted.by[link.name] = by
	}
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
	wait.Signal(c.ready)
}

// take returns what was noted since it was called last.
func (c *changes) take() changedLinks {
	c.mu.Lock()
	defer c.mu.Unlock()
	noted := c.noted
	c.noted = noChangedLinks()
	return noted
}
