// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// errNotLoaded means that Load has not succeeded yet.
var errNotLoaded = errors.New("ipam: the state is not loaded yet")

// acquire waits until no other call changes the state, or until ctx ends. The caller gives writer back.
func (i *IPAM) acquire(ctx context.Context) error {
	if err := i.writer.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for another change of pools or addresses: %w", err)
	}
	return nil
}

// update runs change, which changes the pools in memory and waits for nothing. The caller holds writer.
func (i *IPAM) update(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// undo takes back what a change has made; nil: there is nothing to take back.
type undo func(context.Context) error

// change calls do, which changes the state, while no other call does, and returns what do returns. If ctx ends first,
// change returns its error. A disk that has begun to write can't be stopped, so do goes on then, and holds writer until
// it ends. If it succeeds too late, nobody has heard of what it made, and that is taken back.
func change[T any](ctx context.Context, i *IPAM, do func() (T, undo, error)) (T, error) {
	var none T
	if err := i.acquire(ctx); err != nil {
		return none, err
	}
	if i.pools == nil {
		i.writer.Release(1)
		return none, errNotLoaded
	}
	type result struct {
		value T
		err   error
	}
	results := make(chan result) // without a buffer: what was sent was received
	go func() {
		defer i.writer.Release(1)
		value, back, err := guard(do)
		select {
		case results <- result{value, err}:
		case <-ctx.Done():
			i.endLate(context.WithoutCancel(ctx), back, err)
		}
	}()
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("write the state: its disk has not answered in time: %w", ctx.Err())
	}
}

// changeOnly is change for a call without a result, of which nothing is taken back.
func (i *IPAM) changeOnly(ctx context.Context, do func() error) error {
	_, err := change(ctx, i, func() (struct{}, undo, error) { return struct{}{}, nil, do() })
	return err
}

// endLate ends a change that nobody waits for any more.
func (i *IPAM) endLate(ctx context.Context, back undo, err error) {
	switch {
	case err != nil:
		i.log.WithError(err).Error("a change of pools or addresses that took too long has failed")
	case back == nil:
		i.log.Warn("a change of pools or addresses that took too long has succeeded")
	default:
		i.log.Warn("a change of pools or addresses that took too long has succeeded, and is taken back")
		if err := back(ctx); err != nil {
			i.log.WithError(err).Error("take back a change of pools or addresses: it stays")
		}
	}
}

// guard calls do and makes an error of a panic, which nobody above it could recover from: it runs in a goroutine of its
// own.
func guard[T any](do func() (T, undo, error)) (value T, back undo, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return do()
}
