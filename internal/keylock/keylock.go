// SPDX-License-Identifier: Apache-2.0

// Package keylock has a lock for each key, so that who works on one thing waits for others that do, and for no others.
package keylock

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Locks are the locks of all keys. Its zero value is ready: all are free.
type Locks[K comparable] struct {
	mu    sync.Mutex
	locks map[K]*lock
}

type lock struct {
	*semaphore.Weighted
	users int // who holds it or waits for it; the last one removes it from the map
}

// Lock waits for a key's lock until ctx ends, whose error it then returns. The function that it returns releases the
// lock.
func (l *Locks[K]) Lock(ctx context.Context, key K) (unlock func(), err error) {
	one := l.enter(key)
	if err := one.Acquire(ctx, 1); err != nil {
		l.leave(key, one)
		return nil, err
	}
	return func() { one.Release(1); l.leave(key, one) }, nil
}

// TryLock is Lock for those who do not wait; ok is false if the lock is held.
func (l *Locks[K]) TryLock(key K) (unlock func(), ok bool) {
	one := l.enter(key)
	if !one.TryAcquire(1) {
		l.leave(key, one)
		return nil, false
	}
	return func() { one.Release(1); l.leave(key, one) }, true
}

func (l *Locks[K]) enter(key K) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locks == nil {
		l.locks = map[K]*lock{}
	}
	one := l.locks[key]
	if one == nil {
		one = &lock{Weighted: semaphore.NewWeighted(1)}
		l.locks[key] = one
	}
	one.users++
	return one
}

func (l *Locks[K]) leave(key K, one *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one.users--; one.users == 0 {
		delete(l.locks, key)
	}
}
