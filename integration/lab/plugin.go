// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The plugin's sockets on a host, by default.
const (
	PluginSocket = "/run/docker/plugins/weave.sock"
	APISocket    = "/run/weave/weave.sock"
)

// Weave is where a host has the weave binary of Options.Binaries.
const Weave = "/opt/weave/weave"

// Binaries builds weave and nsproc, once for each test process, and returns their directory. If $WEAVE_LAB_BIN is
// set, it returns that directory instead.
func Binaries(t testing.TB) string {
	t.Helper()
	return built(t, binaries)
}

// RaceBinaries is like Binaries, but weave is built with the race detector: it logs "WARNING: DATA RACE" for each
// race and ends with status 66. It needs a C compiler.
func RaceBinaries(t testing.TB) string {
	t.Helper()
	return built(t, raceBinaries)
}

func built(t testing.TB, build func() (string, error)) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("WEAVE_LAB_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	return makeBinaries("bin")
})

var raceBinaries = sync.OnceValues(func() (string, error) { return makeBinaries("build/race", "RACE=1") })

// makeBinaries runs `make build`, with further variables, for a folder below the top of the tree and returns its path.
func makeBinaries(folder string, variables ...string) (string, error) {
	top, err := topDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(top, folder)
	args := append([]string{"-C", top, "build", "BIN=" + dir}, variables...)
	if out, err := exec.Command("make", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return dir, nil
}

// topDir returns the top of the source tree.
func topDir() (string, error) {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("look for the top of the tree: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(mod))), nil
}

// Plugin is a running `weave serve`.
type Plugin struct {
	PID   int    // on this machine
	Log   string // path of its log on this machine
	Weave string // path of its binary on the host; a change takes effect with the next Restart

	host    *Host
	args    []string
	process *process
}

// StartPlugin runs `weave serve` on the host, with the given arguments, and waits until it listens. It is killed at
// the end of t.
func (h *Host) StartPlugin(t testing.TB, args ...string) *Plugin {
	t.Helper()
	p := h.BootPlugin(t, args...)
	t.Cleanup(p.Kill)
	return p
}

// BootPlugin is like StartPlugin, but the plugin runs until the host ends.
func (h *Host) BootPlugin(t testing.TB, args ...string) *Plugin {
	t.Helper()
	p := h.LaunchPlugin(t, args...)
	p.await(t)
	return p
}

// LaunchPlugin is like BootPlugin, but does not wait until the plugin listens.
func (h *Host) LaunchPlugin(t testing.TB, args ...string) *Plugin {
	t.Helper()
	p := &Plugin{host: h, args: args, Weave: Weave, Log: filepath.Join(h.dir, "plugin.log")}
	p.launch(t)
	return p
}

func (p *Plugin) launch(t testing.TB) {
	t.Helper()
	command := append([]string{p.Weave, "serve"}, p.args...)
	var err error
	p.process, err = p.host.start(p.Log, []string{"WEAVE_LOG_LEVEL=debug"}, command...)
	if err != nil {
		t.Fatalf("start the plugin: %v\n%s", err, tail(p.Log, 0))
	}
	p.PID = p.process.pid
}

// await waits until the plugin listens on its sockets.
func (p *Plugin) await(t testing.TB) {
	t.Helper()
	for _, socket := range []string{PluginSocket, APISocket} {
		Eventually(t, 10*time.Second, "the plugin's "+socket, func() error {
			if !p.process.alive() {
				t.Fatalf("the plugin ended: %v\n%s", p.process.err, tail(p.Log, 0))
			}
			c, err := net.Dial("unix", p.host.Path(socket))
			if err != nil {
				return err
			}
			return c.Close()
		})
	}
}

// IsRunning reports whether the plugin has not ended.
func (p *Plugin) IsRunning() bool { return p.process.alive() }

// Kill ends the plugin with SIGKILL. It does nothing if the plugin has ended already.
func (p *Plugin) Kill() { p.process.kill() }

// Stop ends the plugin with SIGTERM. It fails t if the plugin does not end within the 10 s that Docker gives a
// managed plugin, or not with status 0.
func (p *Plugin) Stop(t testing.TB) {
	t.Helper()
	if err := p.process.terminate(10 * time.Second); err != nil {
		t.Errorf("stop the plugin: %v", err)
	} else if p.process.err != nil {
		t.Errorf("the plugin stopped: %v", p.process.err)
	}
}

// Suspend stops the plugin's process with SIGSTOP, wherever it is. See Resume.
func (p *Plugin) Suspend(t testing.TB) { p.signal(t, syscall.SIGSTOP) }

// Resume continues the plugin's process after Suspend.
func (p *Plugin) Resume(t testing.TB) {
	p.signal(t, syscall.SIGCONT)
	if p.process.via != 0 {
		_ = syscall.Kill(p.process.via, syscall.SIGCONT) // nsenter stops itself when its child is stopped
	}
}

func (p *Plugin) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.PID, s); err != nil {
		t.Fatalf("send the plugin %v: %v", s, err)
	}
}

// Restart runs the plugin again with the same arguments, after Kill, Stop or a reboot, and waits until it listens. It
// kills a plugin that still runs.
func (p *Plugin) Restart(t testing.TB) {
	t.Helper()
	p.Kill()
	p.launch(t)
	p.await(t)
}

// Logged returns the plugin's whole log.
func (p *Plugin) Logged(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(p.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Weave runs a command of weave's command line on the host and returns its output. It fails t if the command fails.
func (h *Host) Weave(t testing.TB, args ...string) string {
	t.Helper()
	return h.Exec(t, Weave, args...)
}

// WeaveErr is like Weave, but returns the command's error.
func (h *Host) WeaveErr(args ...string) (string, error) { return h.ExecErr(Weave, args...) }
