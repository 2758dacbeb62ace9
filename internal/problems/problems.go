// SPDX-License-Identifier: Apache-2.0

// Package problems keeps what was found to be wrong at the last look, and has the log tell what is new of it.
package problems

import (
	"slices"
	"sync/atomic"

	"github.com/sirupsen/logrus"
)

// List is what is wrong now, a line each; the zero value is empty. One goroutine sets it, and any may read it.
type List struct{ found atomic.Pointer[[]string] }

// Set replaces the list. The log warns of each problem that was not in it before.
func (l *List) Set(found []string, log *logrus.Entry) {
	before := l.Get()
	for _, problem := range found {
		if !slices.Contains(before, problem) {
			log.Warn(problem)
		}
	}
	l.found.Store(&found)
}

// Get returns the list, which is not to be changed.
func (l *List) Get() []string {
	if found := l.found.Load(); found != nil {
		return *found
	}
	return nil
}
