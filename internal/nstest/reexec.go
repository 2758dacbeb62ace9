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

// reexecEnv names, in the child process, the test that it was started for.
const reexecEnv = "WEAVE_TEST_REEXEC"

// Reexec runs the calling test once more, by itself, in a child process that stands in new network and mount namespaces,
// and returns true in the parent when the child has ended, with its outcome taken over. In the child it returns false.
// So a test begins:
//
//	if nstest.Reexec(t) {
//		return
//	}
//
// It is for code that starts goroutines or processes of its own: Do locks one thread into a namespace, here every
// thread is born inside. The child's network namespace has lo, up, and nothing else; /sys shows that namespace; /run
// is empty and its own, lock files and named namespaces included. Mounts stay in the child.
//
// It may be called in a subtest; then the enclosing tests run in the child as well, up to this one. As with New,
// without the right to do so the test is skipped, or fails if the environment has WEAVE_TEST_ROOT=1.
func Reexec(t *testing.T) bool {
	t.Helper()
	if os.Getenv(reexecEnv) == t.Name() {
		if err := furnish(); err != nil {
			t.Fatalf("furnish the namespaces: %v", err)
		}
		return false
	}

	// The parent-death signal is sent when the thread that forked ends, so it has to stay.
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

// childOf is the command that runs the test t, and nothing else, in new namespaces.
func childOf(t *testing.T) *exec.Cmd {
	args := []string{"-test.v", "-test.count=1", "-test.run=" + runPattern(t.Name())}
	if testing.Short() {
		args = append(args, "-test.short")
	}
	if deadline, ok := t.Deadline(); ok {
		// A little less than the parent has left, so that it is the child that says where it hangs.
		left := max(time.Until(deadline)*9/10, time.Second)
		args = append(args, "-test.timeout="+left.String())
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), reexecEnv+"="+t.Name(),
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=100") // the race detector's own is a second for each child
	cmd.WaitDelay = 5 * time.Second // a process left behind by the test may hold the output open
	cmd.SysProcAttr = &syscall.SysProcAttr{
		// Unshare, unlike clone, has the syscall package make all mounts private too.
		Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:    syscall.SIGKILL,
	}
	return cmd
}

// runPattern is the -test.run pattern that selects exactly the test of that name.
func runPattern(name string) string {
	parts := strings.Split(name, "/")
	for i, p := range parts {
		parts[i] = "^" + regexp.QuoteMeta(p) + "$"
	}
	return strings.Join(parts, "/")
}

// outcomeOf finds what a verbose test run says of the test of that name: PASS, FAIL or SKIP; empty if nothing.
func outcomeOf(name, out string) string {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) >= 3 && f[0] == "---" && f[2] == name {
			return strings.TrimSuffix(f[1], ":")
		}
	}
	return ""
}

// furnish makes the fresh namespaces of this process fit for use.
func furnish() error {
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
