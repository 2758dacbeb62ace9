// SPDX-License-Identifier: Apache-2.0

// Package wait has how goroutines of the project wait: the one pause, a sleep that ends with a context; what has a call
// end with a context that takes none; and the one way to wake another goroutine.
package wait

import (
	"context"
	"time"
)

// For waits for d and reports true, or reports false as soon as ctx ends.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Signal wakes the goroutine that reads from c, a channel with room for one value. If there is a value already the
// goroutine is about to look, and sees what has changed by now as well.
func Signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// CloseAfter has c be closed when ctx ends, so that a call which waits for c ends, or when the function that it returns
// is called. That returns when c is closed.
func CloseAfter(ctx context.Context, c interface{ Close() }) (done func()) {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { c.Close(); close(closed) })
	return func() {
		if stop() {
			c.Close()
		} else {
			<-closed
		}
	}
}
