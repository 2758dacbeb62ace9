// SPDX-License-Identifier: Apache-2.0

package cluster

import "sync"

// gate is open or closed. It is closed at first.
type gate struct {
	mu sync.Mutex
	c  chan struct{} // closed while the gate is open
}

func newGate() *gate { return &gate{c: make(chan struct{})} }

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.c:
	default:
		close(g.c)
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.c:
		g.c = make(chan struct{})
	default:
	}
}

// opened returns a channel that is closed when the gate is open, or has been since.
func (g *gate) opened() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.c
}
