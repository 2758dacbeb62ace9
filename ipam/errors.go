package ipam

import "errors"

// Kinds of refusals. The texts around them say what was asked for, and what to do.
var (
	// ErrPoolExhausted: no subnet, or no address of a pool, is left.
	ErrPoolExhausted = errors.New("nothing is left")
	// ErrPoolOverlap: a pool of the same address space has some of the subnet's addresses.
	ErrPoolOverlap = errors.New("overlaps another pool")
	// ErrPoolUnknown: there is no pool of this id.
	ErrPoolUnknown = errors.New("no such pool")
	// ErrAddressInUse: the address is held already.
	ErrAddressInUse = errors.New("address is in use")
	// ErrForeignAddress: the address is none that the pool hands out.
	ErrForeignAddress = errors.New("address is not one of the pool's")
	// ErrInvalid: a request, or an option, is malformed.
	ErrInvalid = errors.New("invalid request")
)
