// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/child"
)

// bbolt trusts its file. A page that refers to itself overflows the stack, a page beyond the end of the file faults
// in a goroutine of bbolt's, a damaged length takes all memory: a program cannot recover from any of these. Therefore
// a child process tries the file out first. It gets a copy of the file in memory, so whatever happens, the file
// itself stays as it is.

// checkerName is the child's argv[0]. The child is this program, executed once more.
const checkerName = "weave-check-state"

// The child's exit codes, besides 0 for a good file. It writes the reason to its standard error. Any other exit code
// is one of the Go runtime, for a crash.
const (
	exitDamaged = 3
	exitFuture  = 4
	exitFailed  = 5 // the check could not begin
)

const (
	maxFileSize = 1 << 30 // bytes; weave's state is far smaller

	// What the child may use. A state of 1,000 endpoints takes a few MB and some 10 ms.
	maxStack      = 16 << 20  // bytes
	maxMemory     = 512 << 20 // bytes
	memoryPerByte = 8         // of the file, in addition to maxMemory
	maxCPUTime    = 20 * time.Second

	// checkTimeout is how long the check may take. A child in an endless loop ends sooner, when its CPU time is used
	// up; this is for one that gets no CPU time.
	checkTimeout = 2 * time.Minute
)

func init() {
	child.Run(checkerName, func() error {
		runChecker()
		return nil
	})
}

// check returns nil if f is a state that bbolt and this version of weave can work with. If it is not, the error wraps
// ErrFuture or ErrDamaged. With any other error it remains unknown.
func check(ctx context.Context, f *os.File) error {
	memory, err := copyToMemory(f)
	if err != nil {
		return err
	}
	defer memory.Close()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()

	output, err := checkerCommand(ctx, memory).CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("check the file: %w", ctx.Err())
	}
	return verdict(output, err, maxCPUTime)
}

// checkerCommand is the command that starts the child. It gets the copy as descriptor 3 and nothing else of this
// process.
func checkerCommand(ctx context.Context, copied *os.File) *exec.Cmd {
	cmd := child.Command(ctx, checkerName)
	cmd.ExtraFiles = []*os.File{copied}
	return cmd
}

// copyToMemory returns a file in memory with the content of f.
func copyToMemory(f *os.File) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	switch size := info.Size(); {
	case !info.Mode().IsRegular():
		return nil, damaged("not a regular file")
	case size == 0:
		return nil, damaged("the file is empty")
	case size > maxFileSize:
		return nil, damaged("%d bytes are more than weave writes", size)
	}
	content := make([]byte, info.Size())
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, info.Size()), content); err != nil {
		return nil, damaged("%w", err) // the disk failed: what weave wrote can't be read
	}
	return memoryFile(content)
}

// memoryFile returns a file in memory with the given content.
func memoryFile(content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("weave state", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "weave state")
	if _, err := f.WriteAt(content, 0); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("copy the file to memory: %w", err)
	}
	return f, nil
}

// verdict returns what the end of the child says about the file. It takes what the child wrote, the error from
// waiting for it, and how much CPU time it was allowed.
func verdict(output []byte, err error, cpuTime time.Duration) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return fmt.Errorf("start the process that checks the file: %w", err)
	}
	said, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
	switch exit.ExitCode() {
	case exitDamaged:
		return damaged("%s", said)
	case exitFuture:
		return fmt.Errorf("%w: %s", ErrFuture, said)
	case exitFailed:
		return fmt.Errorf("check the file: %s", said)
	}
	status, _ := exit.Sys().(syscall.WaitStatus)
	switch status.Signal() {
	case unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGKILL:
		// The kernel kills the child when its CPU time is used up. If it has used far less (the kernel's two counts
		// differ a little), then it was killed from outside, or because the machine ran out of memory.
		if exit.UserTime()+exit.SystemTime() < cpuTime/2 {
			return fmt.Errorf("the process that checks the file was killed (%w): start weave again", exit)
		}
	}
	return damaged("reading it crashed: %w: %s", exit, said)
}

// runChecker checks the copy in descriptor 3 and ends the process.
func runChecker() {
	copied := os.NewFile(3, "weave state")
	code := exitFailed
	info, err := copied.Stat()
	if err == nil {
		err = confine(maxMemory+memoryPerByte*uint64(info.Size()), maxCPUTime)
	}
	if err == nil {
		err = guard(func() error { return tryOut(copied) })
		switch {
		case err == nil:
			code = 0
		case errors.Is(err, ErrFuture):
			code = exitFuture
		default:
			code = exitDamaged
		}
	}
	if err != nil {
		text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), ErrDamaged.Error()+": "), ErrFuture.Error()+": ")
		fmt.Fprintf(os.Stderr, "%.1000s\n", text)
	}
	unix.Exit(code) // at once; in a test binary os.Exit would leave the code to the race detector
}

// confine limits what this process may use: the size of its stacks, bytes of memory, and CPU time in whole seconds,
// after which the kernel kills it.
func confine(memory uint64, cpuTime time.Duration) error {
	debug.SetMaxStack(maxStack)
	for resource, limit := range map[int]uint64{
		unix.RLIMIT_DATA: memory,
		unix.RLIMIT_CPU:  uint64(cpuTime / time.Second),
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("limit what the check may use: %w", err)
		}
	}
	return nil
}
