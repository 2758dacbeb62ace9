package driver

import "errors"

// Kinds of refusal. The message says what was asked and what to do.
var (
	// ErrInvalid: the request is malformed or asks for what weave does not know.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound: the network or endpoint is unknown.
	ErrNotFound = errors.New("not found")
	// ErrConflict: the request contradicts what is there.
	ErrConflict = errors.New("conflict")
	// ErrFull: the bridge has no port left.
	ErrFull = errors.New("network is full")
)
