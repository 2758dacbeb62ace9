package driver

import "errors"

// undo takes back the steps of a request that fails half way.
type undo []func() error

func (u *undo) push(f func() error) { *u = append(*u, f) }

// onError takes the steps back, the last one first, if *err is an error. What goes wrong meanwhile is joined to it.
func (u *undo) onError(err *error) {
	if *err == nil {
		return
	}
	for i := len(*u) - 1; i >= 0; i-- {
		*err = errors.Join(*err, (*u)[i]())
	}
}
