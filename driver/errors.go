// SPDX-License-Identifier: Apache-2.0

package driver

import "errors"

// Kinds of errors. The message says what is wrong with the request and what to do.
var (
	// ErrInvalid means that the request is malformed, or asks for something that weave does not know.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound means that the network or endpoint is unknown.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that the request contradicts what is there.
	ErrConflict = errors.New("conflict")
	// ErrFull means that the bridge has no port left.
	ErrFull = errors.New("network is full")
)
