// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience multiplies every time limit. The limits are those of a fast idle machine; on a slow or busy one all takes
// longer, and a longer limit only delays the end of a test that fails.
const patience = 4

// commandTimeout is the limit for a single command.
const commandTimeout = patience * time.Minute

// maxPause is the longest pause between two checks of Poll. Checks often start programs, which take processor time
// from what they wait for; hence the pauses grow up to this.
const maxPause = 250 * time.Millisecond

// Poll calls check until it returns nil, and returns check's last error if it does not within the limit.
func Poll(limit time.Duration, check func() error) error {
	limit *= patience
	deadline := time.Now().Add(limit)
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, maxPause) {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", limit, err)
		}
		time.Sleep(pause)
	}
}

// Eventually fails t if check does not return nil within the limit; what names the condition in the message.
func Eventually(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	if err := Poll(limit, check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Command returns a command that runs on the host: in its namespaces and its root.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", nsenter(h.init.pid, append([]string{name}, args...)...)...)
}

// Exec runs a command on the host and returns its output. It fails t if the command fails.
func (h *Host) Exec(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := h.ExecErr(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ExecErr runs a command on the host and returns its output without the last newline.
func (h *Host) ExecErr(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	return output(h.Command(ctx, name, args...))
}

// output runs cmd and returns its standard output without the last newline. The error contains its standard error.
func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	text := strings.TrimSuffix(string(out), "\n")
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return text, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return text, nil
}

// process is a program that runs in the background.
type process struct {
	pid  int // on this machine
	via  int // process id of the nsenter that waits for it; 0: none does
	done chan struct{}
	err  error // of its end; valid once done is closed
}

// startProcess starts cmd. The goroutine that does so keeps its thread until cmd has ended, because the kernel sends
// Pdeathsig when the thread that forked the child ends, see prctl(2).
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, <-started
}

// start starts a program on the host, with its output appended to the file logName of this machine.
func (h *Host) start(logName string, env []string, args ...string) (*process, error) {
	logFile, err := os.OpenFile(logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	cmd := exec.Command("nsenter", nsenter(h.init.pid, args...)...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	p, err := startProcess(cmd)
	if err != nil {
		return nil, err
	}
	// Only a child of nsenter is in the pid namespace. Signals go to that child; nsenter ends with its status.
	parent, child := p.pid, 0
	err = Poll(5*time.Second, func() error {
		if child, err = onlyChild(parent); !p.alive() {
			return nil
		}
		return err
	})
	if !p.alive() {
		return nil, fmt.Errorf("%s ended: %w", strings.Join(args, " "), p.err)
	}
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("start %s: %w", strings.Join(args, " "), err)
	}
	p.pid, p.via = child, parent
	return p, nil
}

// onlyChild returns the process id of the single child of process pid.
func onlyChild(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// alive reports whether p still runs.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends p with SIGKILL and waits for its end.
func (p *process) kill() {
	if p.alive() {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have just ended
		if p.via != 0 {
			_ = syscall.Kill(p.via, syscall.SIGCONT) // nsenter stops itself when its child is stopped
		}
	}
	<-p.done
}

// terminate sends p SIGTERM and waits for its end. If p still runs after the limit, it is killed.
func (p *process) terminate(limit time.Duration) error {
	if p.alive() {
		_ = syscall.Kill(p.pid, syscall.SIGTERM)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(limit):
		p.kill()
		return fmt.Errorf("process %d still ran %v after SIGTERM", p.pid, limit)
	}
}
