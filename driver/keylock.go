package driver

import (
	"context"
	"fmt"
	"sync"
)

// keylock is a lock per network, so that requests for one network wait for each other and for no one else's.
type keylock struct {
	mu    sync.Mutex
	locks map[NetworkID]*heldLock
}

type heldLock struct {
	token chan struct{} // holds one token while the lock is free
	users int           // holders and waiters; the last one removes the lock
}

// lock waits for id's lock until ctx ends. The returned function gives it back.
func (k *keylock) lock(ctx context.Context, id NetworkID) (unlock func(), err error) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[NetworkID]*heldLock{}
	}
	l := k.locks[id]
	if l == nil {
		l = &heldLock{token: make(chan struct{}, 1)}
		l.token <- struct{}{}
		k.locks[id] = l
	}
	l.users++
	k.mu.Unlock()

	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(k.locks, id)
		}
	}
	select {
	case <-l.token:
		return func() { l.token <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("wait for other requests on network %s: %w", id, ctx.Err())
	}
}
