package main

import (
	"context"
	"errors"
	"time"
)

// readyTimeout is how long a call waits for the state to be open and reconciled.
const readyTimeout = 8 * time.Second

// Errors of calls that come before the core is open.
var (
	errStarting = errors.New("weave is starting and has not finished checking its networks: " +
		"repeat the command in a moment, and see weave's log if this lasts")
	errStopping = errors.New("weave is stopping: repeat the command once it runs again")
)

// gate holds calls back while weave starts: the sockets listen at once, the core follows.
type gate struct {
	decided chan struct{} // closed once core or err is set
	core    *core
	err     error
}

func newGate() *gate { return &gate{decided: make(chan struct{})} }

// open lets calls through to c.
func (g *gate) open(c *core) {
	g.core = c
	close(g.decided)
}

// fail answers every call with err.
func (g *gate) fail(err error) {
	g.err = err
	close(g.decided)
}

// now returns the core, nil if there is none yet.
func (g *gate) now() *core {
	select {
	case <-g.decided:
		return g.core
	default:
		return nil
	}
}

// wait returns the core once there is one, an error if there will be none or not soon.
func (g *gate) wait(ctx context.Context) (*core, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case <-g.decided:
		return g.core, g.err
	case <-ctx.Done():
		return nil, errStarting
	}
}
