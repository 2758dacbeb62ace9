// SPDX-License-Identifier: Apache-2.0

package driver

import "context"

// CauseKind says who has had something change.
type CauseKind string

// Those who have something change.
const (
	CauseDocker     CauseKind = "docker"     // Docker, by a call
	CauseComparison CauseKind = "comparison" // the comparison with what Docker's API lists
	CauseRepair     CauseKind = "repair"     // the keeper, which puts right what others change
	CauseStart      CauseKind = "start"      // Reconcile
	CauseNetlink    CauseKind = "netlink"    // another program
)

// Cause is why something has changed, as far as it is known. The zero Cause says nothing.
type Cause struct {
	Kind CauseKind
	By   string // Docker's call, "NetworkDriver.Join", or the other program; empty: it is not known
}

type causeKey struct{}

// WithCause returns a context for calls whose changes have this cause.
func WithCause(ctx context.Context, c Cause) context.Context {
	return context.WithValue(ctx, causeKey{}, c)
}

// causeOf returns the cause that the context has, the zero Cause if it has none.
func causeOf(ctx context.Context) Cause {
	c, _ := ctx.Value(causeKey{}).(Cause)
	return c
}
