package nstest

import (
	"runtime"
	"testing"
)

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Helper()       {}
func (r *recorder) Skipped() bool { return false }
func (r *recorder) Fatal(...any)  { r.FailNow() }
func (r *recorder) FailNow()      { r.failed = true; runtime.Goexit() }
