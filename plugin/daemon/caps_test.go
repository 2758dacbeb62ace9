// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestSysAdminIsGoneFromEveryThread runs in a process of its own, which can't get the capability back.
func TestSysAdminIsGoneFromEveryThread(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	other := nstest.New(t)
	if err := checkNoSysAdmin(); err == nil {
		t.Fatal("the check passes, though root has the capability")
	}

	// Some threads start before the capability is dropped, some after; all try to change namespace after.
	dropped := make(chan struct{})
	var threads sync.WaitGroup
	errs := make(chan error, 16)
	tryToLeave := func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		<-dropped
		errs <- unix.Setns(other.FD(), unix.CLONE_NEWNET)
	}
	for range 8 {
		threads.Go(tryToLeave)
	}
	if err := dropSysAdmin(quiet()); err != nil {
		t.Fatal(err)
	}
	close(dropped)
	for range 8 {
		threads.Go(tryToLeave)
	}
	threads.Wait()
	close(errs)
	for err := range errs {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("setns: %v, want EPERM", err)
		}
	}
	if err := checkNoSysAdmin(); err != nil {
		t.Error(err)
	}

	status, err := exec.CommandContext(t.Context(), "cat", "/proc/self/status").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := withoutSysAdmin(string(status)); err == nil || !strings.Contains(err.Error(), "still has it") {
		t.Errorf("a program that root executes: %v; want it to have the capability again", err)
	}
}

func TestWithoutSysAdmin(t *testing.T) {
	const none, all, sysAdmin = "0000000000000000", "000001ffffffffff", "0000000000200000"
	status := func(inh, prm, eff, amb string) string {
		return "Name:\tweave\nCapInh:\t" + inh + "\nCapPrm:\t" + prm + "\nCapEff:\t" + eff +
			"\nCapBnd:\t" + all + "\nCapAmb:\t" + amb + "\nSeccomp:\t0\n"
	}
	for _, c := range []struct{ name, status, want string }{
		{"none", status(none, none, none, none), ""},
		{"all others", status("000001ffffdfffff", "000001ffffdfffff", "000001ffffdfffff", none), ""},
		{"inheritable", status(sysAdmin, none, none, none), "CapInh still has it"},
		{"permitted", status(none, all, none, none), "CapPrm still has it"},
		{"effective", status(none, none, sysAdmin, none), "CapEff still has it"},
		{"ambient", status(none, none, none, sysAdmin), "CapAmb still has it"},
		{"not a number", status(none, "x", none, none), "CapPrm: "},
		{"cut off", status(none, none, none, none)[:60], "of the 4 sets found"},
		{"empty", "", "0 of the 4 sets found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := withoutSysAdmin(c.status)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
