// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"runtime"
	"testing"
)

// recorder records that a test failed instead of failing it.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()       {}
func (r *recorder) Skipped() bool { return false }
func (r *recorder) Fatal(...any)  { r.FailNow() }
func (r *recorder) FailNow()      { r.failed = true; runtime.Goexit() }
