// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"golang.org/x/sys/unix"
)

// What the tests of this package reach beyond its interface.
var (
	Confine        = confine
	Verdict        = verdict
	CheckerCommand = checkerCommand
)

// TryOut does with a file of that content what the child process does, but in this process: a crash ends it.
func TryOut(content []byte) error {
	f, err := memoryFile(content)
	if err != nil {
		return err
	}
	defer f.Close()
	err = guard(func() error { return tryOut(f) })
	if err != nil {
		// A bad file may stay mapped, and a later one that leads beyond its own end must not lead into it. The kernel
		// maps downwards, so this comes between the two.
		const reach = 1 << 31 // bytes; how far bbolt can be led
		const flags = unix.MAP_PRIVATE | unix.MAP_ANON | unix.MAP_NORESERVE
		if _, err := unix.Mmap(-1, 0, reach, unix.PROT_NONE, flags); err != nil {
			return err
		}
	}
	return err
}

// OpenUnchecked opens a state of that content, which it holds in memory, without checking it.
func OpenUnchecked(content []byte) (*Bolt, error) {
	f, err := memoryFile(content)
	if err != nil {
		return nil, err
	}
	return newBolt(f, "in memory")
}

// Check checks a file of that content as OpenBolt does.
func Check(ctx context.Context, content []byte) error {
	f, err := memoryFile(content)
	if err != nil {
		return err
	}
	defer f.Close()
	return check(ctx, f)
}
