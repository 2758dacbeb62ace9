// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// needNetAdmin returns an error if weave may not make links.
func needNetAdmin() error {
	if ok, err := cap.GetProc().GetFlag(cap.Effective, cap.NET_ADMIN); err != nil || !ok {
		return errors.New("weave has no CAP_NET_ADMIN, without which it can't make a link: " +
			"run it as root, or give it that capability")
	}
	return nil
}

// dropSysAdmin gives up CAP_SYS_ADMIN in every thread of the process, and so in every thread to come. The kernel then
// refuses setns(2) to the process, and no defect can leave one of its threads in a container's network namespace. The
// capability stays in the bounding set; nsproc, which works in containers, regains it when root executes it.
func dropSysAdmin(log *logrus.Entry) error {
	if bound, err := cap.GetBound(cap.SYS_ADMIN); err != nil || !bound {
		log.Warn("CAP_SYS_ADMIN is not in weave's bounding set: nsproc can't enter sandboxes, so container ends " +
			"are not announced and live=nsproc fails; run weave with that capability")
	}
	set := cap.GetProc()
	for _, flag := range []cap.Flag{cap.Effective, cap.Permitted, cap.Inheritable} {
		if err := set.SetFlag(flag, false, cap.SYS_ADMIN); err != nil {
			return fmt.Errorf("give up CAP_SYS_ADMIN: %w", err)
		}
	}
	// The kernel removes from the ambient set by itself what leaves the permitted or the inheritable one.
	if err := set.SetProc(); err != nil {
		return fmt.Errorf("give up CAP_SYS_ADMIN: %w", err)
	}
	return checkNoSysAdmin()
}

// checkNoSysAdmin returns an error if a thread still has CAP_SYS_ADMIN, as the kernel says.
func checkNoSysAdmin() error {
	const doing = "check that CAP_SYS_ADMIN is gone"
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(threads) == 0 {
		return errors.New(doing + ": /proc/self/task has no threads: want /proc mounted")
	}
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended since
		}
		if err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if err := withoutSysAdmin(string(status)); err != nil {
			return fmt.Errorf("%s: %s: %w", doing, path, err)
		}
	}
	return nil
}

// withoutSysAdmin returns an error if CAP_SYS_ADMIN is in one of the four sets of a thread. Status is the thread's, as
// proc_pid_status(5) describes it.
func withoutSysAdmin(status string) error {
	seen := 0
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
		switch name {
		case "CapInh", "CapPrm", "CapEff", "CapAmb":
		default:
			continue
		}
		set, err := strconv.ParseUint(value, 16, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if set&(1<<cap.SYS_ADMIN) != 0 {
			return fmt.Errorf("%s still has it", name)
		}
		seen++
	}
	if seen != 4 {
		return fmt.Errorf("%d of the 4 sets found", seen)
	}
	return nil
}
