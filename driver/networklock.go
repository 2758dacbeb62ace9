// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sync/semaphore"
)

// networkLocks is a lock for each network, so that requests for one network wait for each other and for nobody else.
type networkLocks struct {
	mu    sync.Mutex
	locks map[NetworkID]*networkLock
}

type networkLock struct {
	*semaphore.Weighted
	users int // who holds it or waits for it; the last one removes it from the map
}

// lock waits for the network's lock until ctx ends. The function that it returns releases the lock.
func (n *networkLocks) lock(ctx context.Context, id NetworkID) (unlock func(), err error) {
	l := n.enter(id)
	if err := l.Acquire(ctx, 1); err != nil {
		n.leave(id, l)
		return nil, fmt.Errorf("wait for other requests on network %s: %w", id, err)
	}
	return func() { l.Release(1); n.leave(id, l) }, nil
}

// tryLock is lock for those who do not wait; ok is false if the lock is held.
func (n *networkLocks) tryLock(id NetworkID) (unlock func(), ok bool) {
	l := n.enter(id)
	if !l.TryAcquire(1) {
		n.leave(id, l)
		return nil, false
	}
	return func() { l.Release(1); n.leave(id, l) }, true
}

func (n *networkLocks) enter(id NetworkID) *networkLock {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.locks == nil {
		n.locks = map[NetworkID]*networkLock{}
	}
	l := n.locks[id]
	if l == nil {
		l = &networkLock{Weighted: semaphore.NewWeighted(1)}
		n.locks[id] = l
	}
	l.users++
	return l
}

func (n *networkLocks) leave(id NetworkID, l *networkLock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(n.locks, id)
	}
}
