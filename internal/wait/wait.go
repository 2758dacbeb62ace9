// SPDX-License-Identifier: Apache-2.0

// Package wait has the one pause of the project: a sleep that ends with a context.
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
