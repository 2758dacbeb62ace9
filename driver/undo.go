package driver

import "errors"

// undo is what takes back the steps of a request that failed half way.
type undo []func() error

func (u *undo) push(f func() error) { *u = append(*u, f) }

// unless takes back, last step first, when *err is an error; what goes wrong on the way is joined to it.
func (u *undo) unless(err *error) {
	if *err == nil {
		return
	}
	for i := len(*u) - 1; i >= 0; i-- {
		*err = errors.Join(*err, (*u)[i]())
	}
}
