// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// reexecEnv is the environment variable with the name of the test that a child process is started for.
const reexecEnv = "WEAVE_TEST_REEXEC"

// Reexec runs the calling test, and no other, in a child process with new network and mount namespaces. In the parent
// it returns true after the child has ended; the test then has the outcome that it had in the child. In the child it
// returns false. So a test begins:
//
//	if nstest.Reexec(t) {
//		return
//	}
//
// It is for code that starts goroutines or processes: while Do has only one thread in a namespace, all threads of the
// child are in the new one. It contains lo, up, and no other link. /sys shows that namespace, and /run is empty, so
// that lock files and named namespaces are the child's own. Mounts that the child makes are not visible elsewhere.
//
// Reexec may be called in a subtest. The child then runs the enclosing tests up to the call, too. As with New, where
// the test lacks the permission it is skipped, or fails if the environment has WEAVE_TEST_ROOT=1.
func Reexec(t *testing.T) bool {
	t.Helper()
	if os.Getenv(reexecEnv) == t.Name() {
		if err := setUpNamespaces(); err != nil {
			t.Fatalf("set up the namespaces: %v", err)
		}
		return false
	}

	// The kernel sends the parent-death signal when the thread that started the child ends, so that thread has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := childOf(t)
	if coverDir() != "" {
		defer measureCoverage(t, cmd)()
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) && os.Getenv("WEAVE_TEST_ROOT") != "1" {
		t.Skipf("needs root: %v", err)
	}
	t.Logf("in new namespaces:\n%s", out)
	outcome := outcomeOf(t.Name(), string(out))
	switch {
	case err != nil:
		t.Fatalf("in new namespaces: %v", err)
	case outcome == "SKIP":
		t.Skip("skipped in new namespaces")
	case outcome != "PASS":
		t.Fatal("in new namespaces: the test did not run")
	}
	return true
}

// childOf returns the command that runs the test t, and no other, in new namespaces.
func childOf(t *testing.T) *exec.Cmd {
	args := []string{"-test.v", "-test.count=1", "-test.run=" + runPattern(t.Name())}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if deadline, ok := t.Deadline(); ok {
		// Shorter than what is left to the parent, so that the child times out first and shows where it hangs.
		left := max(time.Until(deadline)*9/10, time.Second)
		args = append(args, "-test.timeout="+left.String())
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), reexecEnv+"="+t.Name(),
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=100") // by default each child would sleep for a second
	cmd.WaitDelay = 5 * time.Second // a process that the test leaves behind may have the output open
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// With Unshareflags, unlike Cloneflags, the syscall package makes all mounts private as well.
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	return cmd
}

// runPattern returns the -test.run pattern that matches only the test of that name.
func runPattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// outcomeOf returns the outcome of the test of that name in the output of a verbose test run: PASS, FAIL or SKIP, or an
// empty string if it is not there.
func outcomeOf(name, out string) string {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) >= 3 && f[0] == "---" && f[2] == name {
			return strings.TrimSuffix(f[1], ":")
		}
	}
	return ""
}

// setUpNamespaces mounts /sys and /run and sets lo up in the new namespaces of this process.
func setUpNamespaces() error {
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("look up lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}
