// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"maps"
	"slices"
	"sync"

	"github.com/weaveplugin/weave/internal/wait"
)

// changes collects the names of networks that have changed, for one reader.
type changes struct {
	ready chan struct{} // has a value while there is something to take

	mu    sync.Mutex
	names map[string]bool
}

func newChanges() *changes { return &changes{ready: make(chan struct{}, 1), names: map[string]bool{}} }

// note has the reader take these names, or none.
func (c *changes) note(names ...string) {
	c.mu.Lock()
	for _, name := range names {
		c.names[name] = true
	}
	c.mu.Unlock()
	wait.Signal(c.ready)
}

func (c *changes) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := slices.Sorted(maps.Keys(c.names))
	clear(c.names)
	return names
}
