// SPDX-License-Identifier: Apache-2.0

// Package nstest provides network namespaces that are removed when a test ends, and what tests in them need: veth
// pairs, an nsproc, and child processes in namespaces of their own. It is for tests only. Apart from it, only nsproc
// enters network namespaces; the plugin never does.
package nstest

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NS is a network namespace that lives until its test ends.
type NS struct {
	file *os.File
}

// New makes a network namespace in which lo is up. Where the test lacks the permission it is skipped, or fails if the
// environment has WEAVE_TEST_ROOT=1.
func New(t testing.TB) *NS {
	t.Helper()
	ns := &NS{}
	err := onOwnThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		if ns.file, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return fmt.Errorf("find lo: %w", err)
		}
		return netlink.LinkSetUp(lo)
	})
	if errors.Is(err, unix.EPERM) && os.Getenv("WEAVE_TEST_ROOT") != "1" {
		t.Skipf("needs root: %v", err)
	}
	if err != nil {
		t.Fatalf("test namespace: %v", err)
	}
	t.Cleanup(func() { ns.file.Close() })
	return ns
}

// Here returns the namespace that the whole process is in, in the child of Reexec.
func Here(t testing.TB) *NS {
	t.Helper()
	file, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return &NS{file}
}

// File returns a file that is open on the namespace. It is closed when the test ends.
func (n *NS) File() *os.File { return n.file }

// FD returns the descriptor of File.
func (n *NS) FD() int { return int(n.file.Fd()) }

// Path returns a path that any process can open to get at the namespace, until the test ends. Tests use it in place of
// Docker's SandboxKey.
func (n *NS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.FD()) }

// Do runs f inside the namespace, on a thread of its own. If f returns an error the test fails and ends. f may call any
// method of t. A socket that f opens belongs to the namespace and can be used after f has returned. A goroutine that f
// starts is not inside.
func (n *NS) Do(t testing.TB, f func() error) {
	t.Helper()
	done := false
	err := onOwnThread(func() error {
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the test namespace: %w", err)
		}
		err := f()
		done = true
		return err
	})
	switch {
	case err != nil:
		t.Fatal(err)
	case done:
	case t.Skipped():
		t.SkipNow()
	default:
		t.FailNow()
	}
}

// onOwnThread runs f in a new goroutine that is locked to its thread, and then moves the thread back to its
// namespace. If that fails, the goroutine ends without unlocking the thread, so that the runtime ends the thread as
// well and no other goroutine runs on it. A panic of f continues in the caller. If f ends its goroutine (t.FailNow),
// onOwnThread returns nil.
func onOwnThread(f func() error) error {
	var err error
	var panicked any
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		home, openErr := os.Open("/proc/thread-self/ns/net")
		if openErr != nil {
			err = openErr
			return
		}
		defer func() {
			if p := recover(); p != nil {
				panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			home.Close()
		}()
		err = f()
	}()
	<-ended
	if panicked != nil {
		panic(panicked)
	}
	return err
}
