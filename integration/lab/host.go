// Package lab starts test hosts on one machine: each is a set of namespaces (network, mount, pid, uts, ipc) with an
// init, a disk and a Docker Engine of its own, of whichever version, and is gone without a trace when it ends. It is
// for tests and benchmarks only.
//
// The package itself stays in the machine's own namespaces: it enters a host only by running nsenter.
package lab

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

//go:embed boot.sh
var bootScript string

// initScript is a host's init: bash reaps whatever loses its parent.
const initScript = `echo ready >&3; exec 3>&-; while :; do sleep 86400; done`

// Options says what a host is like.
type Options struct {
	Name     string       // required: host name, at most 12 characters
	Root     string       // root directory of the host's software; empty: that of the suite $WEAVE_LAB_ENGINE, or this machine's own
	Engine   []string     // further options of dockerd
	NoEngine bool         // leave the engine off until StartEngine
	Underlay *Underlay    // the network that the host's eth0 is on; nil: the host has no eth0
	Address  netip.Prefix // of eth0; required with Underlay
}

// Host is a test host. One goroutine may power it on and off or start and end its engine; all else may be called from
// several at once.
type Host struct {
	options Options
	dir     string // its disk, and its logs
	bin     string // directory of the binaries under test
	init    *process
	engine  *process
}

// Start boots a host that lasts as long as t, and prints its logs if t fails.
func Start(t testing.TB, o Options) *Host {
	t.Helper()
	h := Boot(t, o)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	h.Watch(t)
	return h
}

// Boot boots a host that lasts until Close is called, so that several tests can share it.
func Boot(t testing.TB, o Options) *Host {
	t.Helper()
	needRoot(t)
	if suite := os.Getenv("WEAVE_LAB_ENGINE"); o.Root == "" && suite != "" {
		o.Root = Root(t, suite)
	}
	if o.Root == "" {
		o.Root = "/"
	}
	sweepOnce.Do(sweep)
	dir, err := os.MkdirTemp(disks, fmt.Sprintf("weave-lab-%d-%s-", os.Getpid(), o.Name))
	if err != nil {
		t.Fatalf("make the disk of host %s: %v", o.Name, err)
	}
	h := &Host{options: o, dir: dir, bin: Binaries(t)}
	booted := false
	defer func() {
		if !booted {
			t.Logf("engine of host %s:\n%s", o.Name, tail(h.engineLog(), 0))
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	h.PowerOn(t)
	if !o.NoEngine {
		h.StartEngine(t)
		h.ImportImage(t)
	}
	booted = true
	return h
}

// disks is where the hosts' disks are.
const disks = "/var/tmp"

var sweepOnce sync.Once

// sweep removes what is left of hosts of a test that was killed. The hosts themselves died with it.
func sweep() {
	names, _ := filepath.Glob(filepath.Join(disks, "weave-lab-*"))
	for _, name := range names {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(name), "weave-lab-%d-", &pid); err != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		_ = removeCgroups(filepath.Base(name)) // what can't be removed now is tried again by the next test
		_ = os.RemoveAll(name)
	}
}

// needRoot skips t without root, or fails it where root is promised.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("WEAVE_TEST_ROOT") == "1" {
		t.Fatal("WEAVE_TEST_ROOT=1, but this is not root")
	}
	t.Skip("needs root: it makes namespaces and runs Docker Engines in them")
}

// PowerOn boots the host. Neither its engine nor a plugin runs yet.
func (h *Host) PowerOn(t testing.TB) {
	t.Helper()
	logFile, err := os.Create(filepath.Join(h.dir, "boot.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	ready, readyWriter, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()

	cmd := exec.Command("bash", "-c", bootScript, "boot.sh",
		h.options.Name, h.options.Root, h.dir, h.bin, "bash", "-c", initScript)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{readyWriter}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	h.init, err = startProcess(cmd)
	readyWriter.Close()
	if err != nil {
		t.Fatalf("boot host %s: %v", h.options.Name, err)
	}
	if line, err := bufio.NewReader(ready).ReadString('\n'); line != "ready\n" {
		t.Fatalf("boot host %s: init ended (%v):\n%s", h.options.Name, err, tail(logFile.Name(), 0))
	}
	if h.options.Underlay != nil {
		h.options.Underlay.attach(t, h)
	}
}

// PowerOff ends everything on the host at once, as a power cut does. Its disk stays.
func (h *Host) PowerOff(t testing.TB) {
	t.Helper()
	if err := h.powerOff(); err != nil {
		t.Fatal(err)
	}
}

func (h *Host) powerOff() error {
	if h.init == nil {
		return nil
	}
	h.init.kill()
	h.init, h.engine = nil, nil
	return removeCgroups(h.cgroup())
}

// Close ends the host and removes all that it left on the machine.
func (h *Host) Close() error {
	if err := errors.Join(h.powerOff(), os.RemoveAll(h.dir)); err != nil {
		return fmt.Errorf("end host %s: %w", h.options.Name, err)
	}
	return nil
}

// Watch prints, if t fails, what the host's engine and plugins logged while it ran.
func (h *Host) Watch(t testing.TB) {
	before := map[string]int64{}
	for _, name := range h.logs() {
		before[name] = fileSize(name)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		for _, name := range h.logs() {
			t.Logf("%s of host %s:\n%s", filepath.Base(name), h.options.Name, tail(name, before[name]))
		}
	})
}

func (h *Host) logs() []string {
	names, _ := filepath.Glob(filepath.Join(h.dir, "*.log"))
	return names
}

// Path is where this machine sees the host's file p. It changes with each boot.
func (h *Host) Path(p string) string {
	return fmt.Sprintf("/proc/%d/root%s", h.init.pid, p)
}

// PID is the process id, on this machine, of the host's init.
func (h *Host) PID() int { return h.init.pid }

// cgroup is the cgroup below which the host's containers are.
func (h *Host) cgroup() string { return filepath.Base(h.dir) }

// removeCgroups removes a cgroup and those below it, in every hierarchy. A cgroup can be removed a moment after its
// last process has ended.
func removeCgroups(name string) error {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/" + name)
	for _, root := range append(roots, "/sys/fs/cgroup/"+name) {
		if err := Poll(10*time.Second, func() error { return removeTree(root) }); err != nil {
			return fmt.Errorf("remove cgroup %s: %w", root, err)
		}
	}
	return nil
}

// removeTree removes a cgroup directory and those below it; a cgroup's files go with it.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return syscall.Rmdir(dir)
}

// tail is the end of a log file, at most 16 KiB and nothing before the offset from.
func tail(name string, from int64) string {
	const most = 16 << 10
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if size := fileSize(name); size-from > most {
		from = size - most
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}

func fileSize(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Size()
}

// nsenter is the command line that enters all of the namespaces and the root of process pid.
func nsenter(pid int, args ...string) []string {
	return append([]string{"-t", strconv.Itoa(pid), "-m", "-n", "-p", "-u", "-i", "-r", "-w", "--"}, args...)
}
