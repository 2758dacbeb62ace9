// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// fake returns a Launcher whose nsproc is a shell script.
func fake(t *testing.T, timeout time.Duration, script string) *Launcher {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nsproc")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := New(Options{Path: path, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestBadNsproc(t *testing.T) {
	ns := nstest.New(t)
	for _, tc := range []struct {
		name, script string
		is           error // nil: any
		says         string
	}{
		{"another version", `echo '{"version":2,"new":1}'; exit 3`, protocol.ErrVersion, "same release"},
		{"garbage", `echo hello`, nil, "decode"},
		{"no reply", ``, nil, "decode"},
		{"a reply to another request", `echo '{"version":1}'`, nil, "decode"},
		{"a garbled refusal", `echo hello; exit 3`, nil, "decode"},
		{"two refusals", `echo '{"version":1,"error":{}}{}'; exit 3`, nil, "more than one"},
		{"an unknown field", `echo '{"version":1,"snap":{}}'; exit 3`, nil, "snap"},
		{"no reason", `echo '{"version":1}'; exit 3`, nil, "without a reason"},
		{"an endless reply", `exec cat /dev/zero`, nil, "more than 16777216 bytes"},
		{"a refusal", `echo '{"version":1,"error":{"op":"list","message":"no such device","errno":19}}'; exit 3`,
			syscall.ENODEV, "list: no such device"},
		{"it can't enter", `exit 101`, syscall.EPERM, "CAP_SYS_ADMIN"},
		{"it is given no namespace", `exit 109`, syscall.EBADF, "could not enter"},
		{"it fails", `echo why >&2; exit 1`, nil, `exit status 1, it said "why"`},
		{"it says much", `head -c 100000 /dev/zero | tr '\0' x >&2; exit 1`, nil, "exit status 1, it said"},
		{"it is killed", `kill -9 $$`, nil, "signal: killed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := fake(t, time.Minute, tc.script).List(t.Context(), ns.Path(), protocol.List{})
			if err == nil {
				t.Fatal("no error")
			}
			if tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got error %v, want one with %q", err, tc.says)
			}
			if len(err.Error()) > 5<<10 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

// Each nsproc that was started is told when it has ended, those that fail, too.
func TestEnded(t *testing.T) {
	ns := nstest.New(t)
	var ended []error
	for _, script := range []string{"exit 3", "exit 0"} {
		l := fake(t, time.Minute, script)
		l.ended = func(took time.Duration, err error) {
			if took <= 0 {
				t.Errorf("took %v", took)
			}
			ended = append(ended, err)
		}
		_, _ = l.List(t.Context(), ns.Path(), protocol.List{})
		_, _ = l.List(t.Context(), "/no/sandbox", protocol.List{}) // nothing is started
	}
	if len(ended) != 2 || ended[0] == nil || ended[1] != nil {
		t.Errorf("ended with %v, want a failure and a success", ended)
	}
}

// An nsproc that hangs is killed at the deadline, even if another process has its output open.
func TestDeadline(t *testing.T) {
	ns := nstest.New(t)
	for name, script := range map[string]string{
		"hangs":                     "echo $$ >&2; exec sleep 600",
		"hangs with a child's help": "echo $$ >&2; sleep 3 & exec sleep 600",
	} {
		t.Run(name, func(t *testing.T) {
			pid := 0
			// On a busy machine the deadline may pass before the script has started.
			for timeout := 200 * time.Millisecond; pid == 0; timeout *= 2 {
				_, err := fake(t, timeout, script).List(t.Context(), ns.Path(), protocol.List{})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("got error %v, want the deadline's", err)
				}
				_, said, _ := strings.Cut(err.Error(), `it said "`)
				if _, err := fmt.Sscanf(said, "%d", &pid); err != nil && timeout > time.Minute {
					t.Fatalf("no process id in %q: %v", said, err)
				}
			}
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d is still there: %v", pid, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := fake(t, 0, "exec sleep 600").List(ctx, ns.Path(), protocol.List{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want the caller's", err)
	}
}

func TestNoSandbox(t *testing.T) {
	l := fake(t, 0, "exit 1")
	dir := t.TempDir()
	if _, err := l.List(t.Context(), filepath.Join(dir, "none"), protocol.List{}); !errors.Is(err, ErrNoSandbox) {
		t.Errorf("got error %v, want ErrNoSandbox", err)
	}
	c := protocol.Configure{Peer: 1, MAC: mac.MustParse("02:00:00:00:00:01")}
	if _, err := l.Configure(t.Context(), dir, c); !errors.Is(err, ErrNotVisible) {
		t.Errorf("got error %v, want ErrNotVisible", err)
	}
}

// nsproc gets its standard streams and the namespace, nothing else of this process.
func TestDescriptors(t *testing.T) {
	t.Setenv("SECRET", "x")
	// Descriptors that this process has inherited are none of the Launcher's.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	ns, other := nstest.New(t), nstest.New(t)
	l := fake(t, time.Minute, `readlink /proc/self/fd/3; ls /proc/self/fd; env`)
	open, err := l.Sandboxes().Open(other.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	stdin, err := pipeWith(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out, err := l.run(t.Context(), stdin, []*os.File{ns.File()})
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	want := link + "\n0\n1\n2\n3\n4\n" // ls has the directory open as well
	if !strings.HasPrefix(string(out), want) {
		t.Errorf("got descriptors %q, want %q", out, want)
	}
	if strings.Contains(string(out), "SECRET") {
		t.Errorf("the environment was passed on: %q", out)
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{
		{}, {Path: "nsproc"}, {Path: dir}, {Path: plain}, {Path: filepath.Join(dir, "none")},
		{Path: "/bin/sh", Timeout: -1},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// Many at the same time, each in its own sandbox.
func TestParallel(t *testing.T) {
	l, err := New(Options{Path: nstest.Nsproc(t), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	host := nstest.New(t)
	var group sync.WaitGroup
	for i := range 50 {
		ns := nstest.New(t)
		address := fmt.Sprintf("10.32.0.%d/22", i+1)
		index, hwaddr := nstest.Veth(t, host, ns, fmt.Sprintf("host%d", i), address)
		group.Go(func() {
			s, err := l.List(t.Context(), ns.Path(), protocol.List{})
			if err != nil {
				t.Error(err)
				return
			}
			eth0 := s.Links[len(s.Links)-1]
			if eth0.MAC != hwaddr || eth0.Peer != index || eth0.Addresses[0].String() != address {
				t.Errorf("got %+v, want %s with peer %d and address %s", eth0, hwaddr, index, address)
			}
		})
	}
	group.Wait()
}

// TestManyLinks lists a sandbox that has thousands of links. They are veth pairs, since all of these go at once with
// their namespace: with bridges the kernel holds up every other change of links for a minute then.
func TestManyLinks(t *testing.T) {
	const count = 4000
	sandbox := nstest.New(t)
	sandbox.Do(t, func() error {
		cmd := exec.Command("ip", "-batch", "-")
		var commands strings.Builder
		for i := range count / 2 {
			fmt.Fprintf(&commands, "link add a%d type veth peer name b%[1]d\n", i)
		}
		cmd.Stdin = strings.NewReader(commands.String())
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	l, err := New(Options{Path: nstest.Nsproc(t), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.List(t.Context(), sandbox.Path(), protocol.List{})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Links) != count+1 {
		t.Errorf("%d links, want %d", len(found.Links), count+1)
	}
}
