// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/plugin/cli"
	"github.com/weaveplugin/weave/plugin/daemon"
)

// daemonEnv makes the test binary a daemon: its value is the command line of `weave serve`, with blanks between, or
// stuckDaemon.
const (
	daemonEnv   = "WEAVE_TEST_DAEMON"
	stuckDaemon = "stuck"
)

// TestDaemonProcess is no test of its own: tests run it as the process of a daemon.
func TestDaemonProcess(t *testing.T) {
	args := os.Getenv(daemonEnv)
	switch args {
	case "":
		t.Skip("other tests run it as a daemon")
	case stuckDaemon:
		cfg, log := newConfig(t), logrus.NewEntry(logrus.New())
		program := newProgram(cfg, log)
		program.Open = func(context.Context, daemon.Sockets) (*daemon.Core, error) { select {} }
		t.Fatal(daemon.Serve(t.Context(), cfg, program, log))
	}
	command := append([]string{"weave", "serve"}, strings.Split(args, " ")...)
	if status := cli.Run(t.Context(), command, os.Stderr, build(), daemon.NewCommand(newProgram)); status != 0 {
		t.Fatalf("exit status %d", status)
	}
}

// process is a daemon in a process of its own.
type process struct {
	*exec.Cmd
	log *logBuffer
}

// logBuffer keeps what a process prints.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startProcess starts a daemon; it is killed when the test ends, if it is still there.
func startProcess(t *testing.T, args string) *process {
	t.Helper()
	p := &process{exec.Command("/proc/self/exe", "-test.run=^TestDaemonProcess$"), new(logBuffer)}
	// Its files are in a directory of this process, which removes them: a process that is killed can't.
	p.Env = append(os.Environ(), daemonEnv+"="+args, "TMPDIR="+socketDir(t))
	p.Stdout, p.Stderr = p.log, p.log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait()
		}
		if t.Failed() {
			t.Logf("daemon %d printed:\n%s", p.Process.Pid, p.log)
		}
	})
	return p
}

// TestSecondSignalEndsAStuckDaemon: a daemon that can't end in order can still be ended.
func TestSecondSignalEndsAStuckDaemon(t *testing.T) {
	p := startProcess(t, stuckDaemon)
	eventually(t, "the daemon listens", func() bool { return strings.Contains(p.log.String(), "listening") })
	if err := p.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the daemon stops", func() bool { return strings.Contains(p.log.String(), "stopping") })
	// The handler is removed only after that message, and a signal that arrives before is ignored.
	ended := make(chan error, 1)
	go func() { ended <- p.Wait() }()
	var exit *exec.ExitError
	eventually(t, "the daemon ends", func() bool {
		select {
		case err := <-ended:
			if !errors.As(err, &exit) {
				t.Fatalf("ended with %v, want by the signal", err)
			}
			return true
		default:
			_ = p.Process.Signal(unix.SIGTERM)
			return false
		}
	})
	if status := exit.Sys().(syscall.WaitStatus); status.Signal() != unix.SIGTERM {
		t.Errorf("ended with %v, want by SIGTERM", exit)
	}
}

// TestDaemon runs `weave serve` as it is: capability gone, calls answered, clean stop, state found again.
func TestDaemon(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	dir := socketDir(t)
	socket := filepath.Join(dir, "plugins", "weave.sock")
	apiSocket := filepath.Join(dir, "api.sock")
	args := strings.Join([]string{"--plugin-socket=" + socket, "--api-socket=" + apiSocket, "--docker-socket=none",
		"--state=" + filepath.Join(dir, "state", "weave.db"), "--nsproc=" + executable(t), "--mtu=1400"}, " ")
	bridge := "wv-" + networkID[:12]

	p := startProcess(t, args)
	ready(t, p)
	threads, err := filepath.Glob("/proc/" + strconv.Itoa(p.Process.Pid) + "/task/*/status")
	if err != nil || len(threads) == 0 {
		t.Fatalf("%d threads, %v", len(threads), err)
	}
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if err != nil {
			continue // ended since
		}
		if hasSysAdmin(t, string(status)) {
			t.Errorf("%s: the thread has CAP_SYS_ADMIN", path)
		}
	}
	create := `{"NetworkID":"` + networkID + `","IPv4Data":[{"AddressSpace":"LocalDefault","Pool":"10.40.0.0/24"}]}`
	if status, body, err := call(socket, "NetworkDriver.CreateNetwork", create); err != nil || status != http.StatusOK {
		t.Fatalf("CreateNetwork: %d %s %v", status, body, err)
	}
	stopped(t, p)
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket after a clean stop: %v", err)
	}
	link, err := netlink.LinkByName(bridge)
	if err != nil {
		t.Fatalf("the bridge after a stop: %v", err)
	}
	if err := netlink.LinkDel(link); err != nil { // as a reboot does
		t.Fatal(err)
	}

	// The state brings the bridge back, and the API lists it.
	p = startProcess(t, args)
	ready(t, p)
	link, err = netlink.LinkByName(bridge)
	if err != nil || link.Attrs().MTU != 1400 {
		t.Errorf("the bridge after a start: %v, %v", link, err)
	}
	client := api.NewClient(apiSocket)
	networks, err := client.Networks(t.Context())
	if err != nil || len(networks) != 1 || networks[0].ID != networkID {
		t.Errorf("networks: %+v, %v", networks, err)
	}
	status, err := client.Status(t.Context())
	if err != nil || status.PID != p.Process.Pid || status.StateID == "" ||
		status.Reconcile == nil || len(status.Reconcile.Actions) != 1 {
		t.Errorf("status: %+v, %v", status, err)
	}

	// A crash leaves the sockets; the next one replaces them.
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait()
	p = startProcess(t, args)
	ready(t, p)
	code, body, err := call(socket, "NetworkDriver.DeleteNetwork", deleteNetwork)
	if err != nil || code != http.StatusOK {
		t.Fatalf("DeleteNetwork: %d %s %v", code, body, err)
	}
	if _, err := netlink.LinkByName(bridge); !errors.As(err, new(netlink.LinkNotFoundError)) {
		t.Errorf("the bridge after DeleteNetwork: %v", err)
	}
	stopped(t, p)
}

// hasSysAdmin reports whether a thread, whose status this is as of proc_pid_status(5), has or can get CAP_SYS_ADMIN.
func hasSysAdmin(t *testing.T, status string) bool {
	t.Helper()
	sets := regexp.MustCompile(`(?m)^Cap(?:Inh|Prm|Eff|Amb):\t([0-9a-f]{16})$`).FindAllStringSubmatch(status, -1)
	if len(sets) != 4 {
		t.Fatalf("%d sets of capabilities in %q, want 4", len(sets), status)
	}
	return slices.ContainsFunc(sets, func(set []string) bool {
		bits, err := strconv.ParseUint(set[1], 16, 64)
		return err != nil || bits&(1<<unix.CAP_SYS_ADMIN) != 0
	})
}

func ready(t *testing.T, p *process) {
	t.Helper()
	eventually(t, "the daemon is ready", func() bool { return strings.Contains(p.log.String(), "msg=ready") })
}

// stopped ends the daemon with SIGTERM, cleanly.
func stopped(t *testing.T, p *process) {
	t.Helper()
	if err := p.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("after SIGTERM: %v", err)
	}
}

// TestFullDisk: what can't be recorded is not done, and the answer says so.
func TestFullDisk(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	cfg := newConfig(t)
	disk := filepath.Dir(cfg.State)
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	d := startDaemon(t, cfg)
	socket := cfg.PluginSockets[0]
	status, body, err := call(socket, "NetworkDriver.DeleteNetwork", deleteNetwork)
	if err != nil || status != http.StatusOK {
		t.Fatalf("before: %d %s %v", status, body, err)
	}
	ballast, err := os.Create(filepath.Join(disk, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	if _, err := io.Copy(ballast, zeros{}); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}

	failed := 0
	for i := range 40 { // pages that the state has already may hold some
		id := strings.Replace(networkID, "7d2a", strconv.Itoa(1000+i), 1)
		pool := "10.60." + strconv.Itoa(i) + ".0/24"
		create := `{"NetworkID":"` + id + `","IPv4Data":[{"Pool":"` + pool + `"}]}`
		status, body, err := call(socket, "NetworkDriver.CreateNetwork", create)
		if err != nil {
			t.Fatal(err)
		}
		_, err = netlink.LinkByName("wv-" + id[:12])
		if made := err == nil; made != (status == http.StatusOK) {
			t.Fatalf("status %d: %s, but bridge made: %v", status, body, made)
		}
		if status != http.StatusOK {
			failed++
			if !strings.Contains(body, "no space left") {
				t.Errorf("error %s", body)
			}
		}
	}
	if failed == 0 {
		t.Error("the disk is full, and every call succeeded")
	}
	d.stop()
	if err := d.ended(t); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
