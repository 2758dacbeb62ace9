// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weaveplugin/weave/internal/wait"
)

// ChangeKind says what has changed.
type ChangeKind string

// The kinds of changes.
const (
	NetworkMade     ChangeKind = "network-made"
	NetworkRemoved  ChangeKind = "network-removed"
	EndpointCreated ChangeKind = "endpoint-created"
	EndpointJoined  ChangeKind = "endpoint-joined"
	EndpointUp      ChangeKind = "endpoint-up"
	EndpointDown    ChangeKind = "endpoint-down" // its carrier is gone while it is in its sandbox
	EndpointShed    ChangeKind = "endpoint-shed" // it has given addresses away while it is in its sandbox
	EndpointLeft    ChangeKind = "endpoint-left"
	EndpointDeleted ChangeKind = "endpoint-deleted"
	Drifted         ChangeKind = "drifted"  // another program has changed a link of a network, or removed it
	Repaired        ChangeKind = "repaired" // weave has put that right
)

// Change is one change of what the driver tracks.
type Change struct {
	Seq      uint64 // the number of the change since weave started; the first is 1, and none is left out
	Time     time.Time
	Kind     ChangeKind
	Network  Network  // after the change, or what it was before it was removed; zero for changes of endpoints
	Endpoint Endpoint // likewise; zero for changes of networks
	What     string   // of Drifted and Repaired: the link, and what is or was wrong, "bridge wv-...: down"
	Cause    Cause    // zero: it is not known
}

// Snapshot is everything that the driver tracks at one moment, but for networks that are being made.
type Snapshot struct {
	Seq       uint64     // of the last change that it contains
	Networks  []Network  // oldest first
	Endpoints []Endpoint // oldest first
}

// ErrMissed tells a subscriber that it was too slow and has missed changes: it has to Resync.
var ErrMissed = errors.New("changes were missed")

// feed hands changes to subscribers, in order. It never waits for one.
type feed struct {
	mu            sync.Mutex
	seq           uint64
	subscriptions map[*Subscription]bool
}

// publish numbers the change and hands it to every subscriber. The tracker calls it while it holds its lock, so the
// order of the numbers is the order of the changes.
func (f *feed) publish(c Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	c.Seq, c.Time = f.seq, time.Now()
	for s := range f.subscriptions {
		s.add(c)
	}
}

// Subscription is one subscriber's place in the feed. One goroutine may use it at a time.
type Subscription struct {
	tracker *tracker
	ready   chan struct{} // holds a token while there is something for Next

	limit int // of the buffer

	// What follows is guarded by the feed's mutex.
	buffer []Change
	missed bool // a change found the buffer full; nothing is buffered until Resync
}

func (s *Subscription) add(c Change) {
	switch {
	case s.missed:
		return
	case len(s.buffer) == s.limit:
		s.buffer, s.missed = nil, true
	default:
		s.buffer = append(s.buffer, c)
	}
	wait.Signal(s.ready)
}

// Next waits for the next change. It returns ErrMissed when the subscriber was too slow, and the context's error when
// that ends.
func (s *Subscription) Next(ctx context.Context) (Change, error) {
	for {
		if c, ok, err := s.take(); ok || err != nil {
			return c, err
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Change{}, ctx.Err()
		}
	}
}

// take returns the oldest change of the buffer, if there is one.
func (s *Subscription) take() (c Change, ok bool, err error) {
	f := &s.tracker.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.missed {
		return Change{}, false, ErrMissed
	}
	if len(s.buffer) == 0 {
		return Change{}, false, nil
	}
	c, s.buffer = s.buffer[0], s.buffer[1:]
	return c, true, nil
}

// Resync returns everything that is tracked now; Next then goes on with the first change after that.
func (s *Subscription) Resync() Snapshot {
	s.tracker.mu.RLock() // no change comes between the snapshot and the empty buffer
	defer s.tracker.mu.RUnlock()
	f := &s.tracker.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	s.buffer, s.missed = nil, false
	return s.tracker.snapshotLocked(f.seq)
}

// Close ends the subscription. Next must not be called any more.
func (s *Subscription) Close() {
	f := &s.tracker.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.subscriptions, s)
}
