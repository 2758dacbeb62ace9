// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

//go:embed systemd.sh
var systemdScript string

// Systemd is a systemd that runs on a host, with the units that a test adds.
type Systemd struct {
	host *Host
	pid  int // on this machine
}

// lastOnV1 is the last version of systemd that runs with cgroup v1.
const lastOnV1 = 257

// StartSystemd starts systemd on the host and waits until it answers. It ends with the host. StartSystemd skips t if
// the host has no systemd, this machine no cgroup hierarchy for systemd, or if the host's systemd needs cgroup v2.
func (h *Host) StartSystemd(t testing.TB) *Systemd {
	t.Helper()
	for _, path := range []string{h.Path("/lib/systemd/systemd"), "/sys/fs/cgroup/systemd/cgroup.procs"} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("systemd can't be started here: %v", err)
		}
	}
	var version int
	_, err := fmt.Sscanf(h.Exec(t, "systemctl", "--version"), "systemd %d", &version)
	if err != nil || version > lastOnV1 {
		t.Skipf("systemd %d (error %v) can't be started here: versions after %d need cgroup v2", version, err, lastOnV1)
	}
	log := filepath.Join(h.dir, "systemd.log")
	p, err := h.start(log, nil, "bash", "-c", systemdScript, "systemd.sh", h.cgroup())
	if err != nil {
		t.Fatalf("start systemd on host %s: %v\n%s", h.options.Name, err, tail(log, 0))
	}
	s := &Systemd{host: h}
	Eventually(t, 30*time.Second, "systemd on host "+h.options.Name, func() error {
		if !p.alive() {
			t.Fatalf("systemd ended: %v\n%s", p.err, tail(log, 0))
		}
		if s.pid, err = onlyChild(p.pid); err != nil {
			return err
		}
		_, err := s.ExecErr("systemctl", "is-active", "lab.target")
		return err
	})
	return s
}

// Exec runs a command in systemd's namespaces and returns its output. It fails t if the command fails.
func (s *Systemd) Exec(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := s.ExecErr(name, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Logged(t))
	}
	return out
}

// ExecErr is like Exec, but returns the command's error.
func (s *Systemd) ExecErr(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	enter := []string{"-t", strconv.Itoa(s.pid), "-m", "-n", "-p", "-u", "-i", "-C", "-r", "-w", "--", name}
	return output(exec.CommandContext(ctx, "nsenter", append(enter, args...)...))
}

// Logged returns what all units have logged.
func (s *Systemd) Logged(t testing.TB) string {
	t.Helper()
	return tail(s.host.Path("/run/units.log"), 0)
}
