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

// patience is how many times as long as a limit says is waited: limits are those of a quick machine that does nothing else,
// and one that is reached only ends a test that fails.
const patience = 4

// commandTimeout bounds a command that a test waits for.
const commandTimeout = patience * time.Minute

// maxPause is the longest pause between two looks at what has not come yet. What is looked at shares the processors with
// those who look, and these start programs for it.
const maxPause = 250 * time.Millisecond

// Poll calls check until it returns nil. After the time limit it gives up with check's last error.
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

// Eventually fails t unless check returns nil within the time limit.
func Eventually(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	if err := Poll(limit, check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Command is a command to be run on the host, in its namespaces and its root.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", nsenter(h.init.pid, append([]string{name}, args...)...)...)
}

// Exec runs a command on the host and returns its output. If it fails, so does t.
func (h *Host) Exec(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := h.ExecErr(name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// ExecErr runs a command on the host and returns its output, less the last newline.
func (h *Host) ExecErr(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	return output(h.Command(ctx, name, args...))
}

// output runs cmd and returns its standard output, less the last newline. What it wrote to its standard error is part
// of the error.
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

// process is a program that runs until it is ended.
type process struct {
	pid  int // on this machine
	via  int // of the nsenter that waits for it; 0: there is none
	done chan struct{}
	err  error // how it ended; read it after done
}

// startProcess starts cmd. The goroutine that does so keeps its thread until cmd has ended, because the kernel sends
// Pdeathsig at the end of the thread that made the child.
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

// start starts a program on the host, which logs to logName.
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
	// nsenter forks to be in the pid namespace, and ends as its child does: the child is the one to signal.
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

// onlyChild is the process id of the one child of process pid.
func onlyChild(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// alive says whether p still runs.
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
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended meanwhile
		if p.via != 0 {
			_ = syscall.Kill(p.via, syscall.SIGCONT) // nsenter stops when its child is stopped
		}
	}
	<-p.done
}

// terminate ends p with SIGTERM and waits for its end; after the time limit it is killed.
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
