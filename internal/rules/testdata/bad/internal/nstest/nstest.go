// Package nstest is the fixture, which may enter.
package nstest

import "golang.org/x/sys/unix"

var _ = unix.Setns
