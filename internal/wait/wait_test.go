// SPDX-License-Identifier: Apache-2.0

package wait

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if !For(t.Context(), time.Minute) || time.Since(start) != time.Minute {
			t.Errorf("waited for %v, want a minute", time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if For(ctx, time.Minute) || time.Since(start) != time.Second {
			t.Errorf("waited for %v, want the second that the context has", time.Since(start))
		}
		if For(ctx, 0) {
			t.Error("reports true though the context has ended")
		}
	})
}

func TestSignal(t *testing.T) {
	c := make(chan struct{}, 1)
	Signal(c)
	Signal(c) // does not block
	<-c
	if len(c) != 0 {
		t.Error("two signals are two values")
	}
}

// counted counts how often it was closed.
type counted int

func (c *counted) Close() { *c++ }

func TestCloseAfter(t *testing.T) {
	for _, ends := range []bool{true, false} {
		var c counted
		ctx, cancel := context.WithCancel(t.Context())
		done := CloseAfter(ctx, &c)
		if ends {
			cancel()
		}
		done()
		cancel()
		if c != 1 {
			t.Errorf("the context ends first: %t: closed %d times, want once", ends, c)
		}
	}
}
