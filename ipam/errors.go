// SPDX-License-Identifier: Apache-2.0

package ipam

import "errors"

// Kinds of errors. The errors that wrap them say what was requested, and what the user can do.
var (
	// ErrPoolExhausted means that no subnet of the range, or no address of the pool, is free.
	ErrPoolExhausted = errors.New("nothing is left")
	// ErrPoolOverlap means that another pool of the same address space has some of the subnet's addresses.
	ErrPoolOverlap = errors.New("overlaps another pool")
	// ErrPoolUnknown means that no pool has this id.
	ErrPoolUnknown = errors.New("no such pool")
	// ErrAddressInUse means that the address is held already.
	ErrAddressInUse = errors.New("address is in use")
	// ErrForeignAddress means that the pool does not hand out this address.
	ErrForeignAddress = errors.New("address is not one of the pool's")
	// ErrInvalid means that a request is malformed or contradicts itself.
	ErrInvalid = errors.New("invalid request")
)
