// Package nstest gives tests a throw-away network namespace. It is for tests only: together with nsproc it is all that
// may enter a namespace, and the plugin never does.
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

// New makes a network namespace with lo up. Without the right to do so the test is skipped, or fails if the
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

// File is the namespace's open file; it is closed when the test ends.
func (n *NS) File() *os.File { return n.file }

// FD is the descriptor of File.
func (n *NS) FD() int { return int(n.file.Fd()) }

// Path opens to the namespace, also from other processes, until the test ends. It stands for Docker's SandboxKey.
func (n *NS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.FD()) }

// Do runs f inside the namespace, on a thread of its own; an error of f ends the test. f may use t as the test itself
// does. What f opens (a netlink socket) stays in the namespace and can be used outside; a goroutine that f starts
// runs outside.
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

// onOwnThread runs f on a locked thread of a new goroutine and takes the thread back to its namespace. If that fails
// the goroutine ends with its thread locked: the runtime then ends the thread, and nothing else ever runs on it.
// A panic of f continues in the caller; if f ends its goroutine (t.FailNow), onOwnThread returns nil.
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
