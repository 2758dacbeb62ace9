// SPDX-License-Identifier: Apache-2.0

// Package lab starts test hosts on one machine. Each host is a set of namespaces (network, mount, pid, uts, ipc) with
// an init, a disk and a Docker Engine of its own, in a version of the test's choice. Nothing is left of a host when
// it ends. The package is for tests and benchmarks only.
//
// Its code runs in the machine's own namespaces and enters those of a host only by running nsenter.
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
)

//go:embed boot.sh
var bootScript string

// initScript is a host's init. It is bash because that reaps the processes that lose their parents.
const initScript = `echo ready >&3; exec 3>&-; while :; do sleep 86400; done`

// Options describes a host.
type Options struct {
	// Name is the host name: required, at most 12 characters.
	Name string
	// Root is the root directory of the host's software. Default: that of the suite $WEAVE_LAB_SUITE, or this
	// machine's own.
	Root string

	DockerArgs []string     // further options of dockerd
	NoDocker   bool         // Docker does not run until StartDocker
	Underlay   *Underlay    // the network of the host's eth0; nil: the host has no eth0
	Address    netip.Prefix // of eth0; required with Underlay
	Binaries   string       // directory with the weave and nsproc that run on the host; default: Binaries()
}

// Host is a test host. Only one goroutine may power it on and off and start and end its Docker; all other methods may
// be called concurrently.
type Host struct {
	options Options
	dir     string // its disk, and its logs
	init    *process
	dockerd *process
}

// Start boots a host, closes it at the end of t, and prints its logs if t fails.
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

// Boot boots a host. It lasts until Close is called, so that several tests can share it.
func Boot(t testing.TB, o Options) *Host {
	t.Helper()
	needRoot(t)
	if suite := os.Getenv("WEAVE_LAB_SUITE"); o.Root == "" && suite != "" {
		o.Root = Root(t, suite)
		o.DockerArgs = append(dockerArgs(suite), o.DockerArgs...)
	}
	if o.Root == "" {
		o.Root = "/"
	}
	sweepOnce.Do(sweep)
	dir, err := os.MkdirTemp(disks, fmt.Sprintf("weave-lab-%d-%s-", os.Getpid(), o.Name))
	if err != nil {
		t.Fatalf("make the disk of host %s: %v", o.Name, err)
	}
	if o.Binaries == "" {
		o.Binaries = Binaries(t)
	}
	h := &Host{options: o, dir: dir}
	booted := false
	defer func() {
		if !booted {
			t.Logf("Docker on host %s:\n%s", o.Name, tail(h.dockerLog(), 0))
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	h.PowerOn(t)
	if !o.NoDocker {
		h.StartDocker(t)
		h.ImportImage(t)
	}
	booted = true
	return h
}

// disks is the directory of the hosts' disks.
const disks = "/var/tmp"

var sweepOnce sync.Once

// sweep removes the files and cgroups of hosts whose test process was killed. Their processes ended with it.
func sweep() {
	names, _ := filepath.Glob(filepath.Join(disks, "weave-lab-*"))
	for _, name := range names {
		var pid int
		if _, err := fmt.Sscanf(filepath.Base(name), "weave-lab-%d-", &pid); err != nil || syscall.Kill(pid, 0) == nil {
			continue
		}
		// The next test process tries again what fails now.
		_ = removeCgroups(filepath.Base(name), pluginCgroups(name)...)
		_ = os.RemoveAll(name)
	}
}

// needRoot skips t if this is not root, or fails it if $WEAVE_TEST_ROOT is 1.
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

// PowerOn boots the host, without Docker and without a plugin.
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
		h.options.Name, h.options.Root, h.dir, h.options.Binaries, "bash", "-c", initScript)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.ExtraFiles = []*os.File{readyWriter}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS |
			syscall.CLONE_NEWIPC,
		Pdeathsig: syscall.SIGKILL,
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

// PowerOff ends all processes on the host at once, as a power cut does. Its disk stays.
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
	h.init, h.dockerd = nil, nil
	return removeCgroups(h.cgroup(), pluginCgroups(h.dir)...)
}

// Close ends the host and removes its disk and its cgroups.
func (h *Host) Close() error {
	if err := errors.Join(h.powerOff(), os.RemoveAll(h.dir)); err != nil {
		return fmt.Errorf("end host %s: %w", h.options.Name, err)
	}
	return nil
}

// Watch prints, if t fails, what Docker and the plugins of the host have logged during t.
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

// Path returns the path under which this machine sees the host's file p. It changes with each boot.
func (h *Host) Path(p string) string {
	return fmt.Sprintf("/proc/%d/root%s", h.init.pid, p)
}

// Underlay returns the network of the host's eth0; nil if it has none.
func (h *Host) Underlay() *Underlay { return h.options.Underlay }

// Name returns the host's name.
func (h *Host) Name() string { return h.options.Name }

// IsOn reports whether the host has power.
func (h *Host) IsOn() bool { return h.init != nil }

// PID returns the process id, on this machine, of the host's init.
func (h *Host) PID() int { return h.init.pid }

// cgroup returns the name of the cgroup below which the host's containers are.
func (h *Host) cgroup() string { return filepath.Base(h.dir) }

// tail returns the end of a log file: what follows the offset from, and at most 16 KiB.
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

// nsenter returns the arguments with which nsenter runs a command in all namespaces and in the root of process pid.
func nsenter(pid int, args ...string) []string {
	return append([]string{"-t", strconv.Itoa(pid), "-m", "-n", "-p", "-u", "-i", "-r", "-w", "--"}, args...)
}
