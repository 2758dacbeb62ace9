// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"time"
)

// readyTimeout is how long a request waits for the core to be open.
const readyTimeout = 8 * time.Second

// Errors of requests that come while there is no core.
var (
	errStarting = errors.New("weave is starting and has not finished checking its networks: " +
		"repeat the command in a moment, and see weave's log if this lasts")
	errStopping = errors.New("weave is stopping: repeat the command once it runs again")
)

// gate holds requests back until the core is open, or until it is certain that it will not open.
type gate struct {
	decided chan struct{} // closed once core or err is set
	core    *Core
	err     error
}

func newGate() *gate { return &gate{decided: make(chan struct{})} }

// open lets requests through to c.
func (g *gate) open(c *Core) {
	g.core = c
	close(g.decided)
}

// fail has every request fail with err.
func (g *gate) fail(err error) {
	g.err = err
	close(g.decided)
}

// now returns the core, nil if there is none yet.
func (g *gate) now() *Core {
	select {
	case <-g.decided:
		return g.core
	default:
		return nil
	}
}

// wait returns the core once it is open, or an error if it will not open, does not open soon, or ctx ends.
func (g *gate) wait(ctx context.Context) (*Core, error) {
	timer := time.NewTimer(readyTimeout)
	defer timer.Stop()
	select {
	case <-g.decided:
		return g.core, g.err
	case <-timer.C:
		return nil, errStarting
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
