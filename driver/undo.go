// SPDX-License-Identifier: Apache-2.0

package driver

import "errors"

// undo holds functions that undo the steps of a request, in case a later step fails.
type undo []func() error

func (u *undo) push(f func() error) { *u = append(*u, f) }

// onError undoes the steps, the last one first, if *err is an error. Errors of the undoing are joined to it.
func (u *undo) onError(err *error) {
	if *err == nil {
		return
	}
	for i := len(*u) - 1; i >= 0; i-- {
		*err = errors.Join(*err, (*u)[i]())
	}
}
