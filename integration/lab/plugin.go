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

// Where the plugin's sockets are on a host, unless it is told otherwise.
const (
	PluginSocket = "/run/docker/plugins/weave.sock"
	APISocket    = "/run/weave/weave.sock"
)

// weave is the binary's path on a host.
const weave = "/opt/weave/weave"

// Binaries builds what is under test, once, and returns the directory that it is in. $WEAVE_LAB_BIN names a directory
// with a build to be tested instead.
func Binaries(t testing.TB) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("WEAVE_LAB_BIN"); dir != "" {
		return filepath.Abs(dir)
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("look for the top of the tree: %w", err)
	}
	top := filepath.Dir(strings.TrimSpace(string(mod)))
	if out, err := exec.Command("make", "-C", top, "build").CombinedOutput(); err != nil {
		return "", fmt.Errorf("make build: %w\n%s", err, out)
	}
	return filepath.Join(top, "bin"), nil
})

// Plugin is a running `weave serve`.
type Plugin struct {
	PID int    // on this machine
	Log string // the file that it logs to, on this machine

	host    *Host
	args    []string
	process *process
}

// StartPlugin runs `weave serve` on the host, with the arguments given, and waits until it listens. It is ended with t.
func (h *Host) StartPlugin(t testing.TB, args ...string) *Plugin {
	t.Helper()
	p := h.BootPlugin(t, args...)
	t.Cleanup(p.Kill)
	return p
}

// BootPlugin runs `weave serve` on the host until it is ended or the host is.
func (h *Host) BootPlugin(t testing.TB, args ...string) *Plugin {
	t.Helper()
	p := h.LaunchPlugin(t, args...)
	p.await(t)
	return p
}

// LaunchPlugin runs `weave serve` on the host and doesn't wait until it listens.
func (h *Host) LaunchPlugin(t testing.TB, args ...string) *Plugin {
	t.Helper()
	p := &Plugin{host: h, args: args, Log: filepath.Join(h.dir, "plugin.log")}
	p.launch(t)
	return p
}

func (p *Plugin) launch(t testing.TB) {
	t.Helper()
	var err error
	p.process, err = p.host.start(p.Log, []string{"WEAVE_LOG_LEVEL=debug"}, append([]string{weave, "serve"}, p.args...)...)
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

// Kill ends the plugin with SIGKILL. A plugin that has ended already stays so.
func (p *Plugin) Kill() { p.process.kill() }

// Stop ends the plugin with SIGTERM, and fails t if it doesn't end within the 10 s that Docker gives a plugin, or not
// with status 0.
func (p *Plugin) Stop(t testing.TB) {
	t.Helper()
	if err := p.process.terminate(10 * time.Second); err != nil {
		t.Errorf("stop the plugin: %v", err)
	} else if p.process.err != nil {
		t.Errorf("the plugin stopped: %v", p.process.err)
	}
}

// Suspend stops the plugin's process where it stands; Resume lets it go on.
func (p *Plugin) Suspend(t testing.TB) { p.signal(t, syscall.SIGSTOP) }

// Resume lets a plugin go on after Suspend.
func (p *Plugin) Resume(t testing.TB) { p.signal(t, syscall.SIGCONT) }

func (p *Plugin) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.PID, s); err != nil {
		t.Fatalf("send the plugin %v: %v", s, err)
	}
}

// Restart runs the plugin again, with the same arguments, after Kill, Stop or a reboot, and waits until it listens.
func (p *Plugin) Restart(t testing.TB) {
	t.Helper()
	p.Kill()
	p.launch(t)
	p.await(t)
}

// Logged is the plugin's whole log.
func (p *Plugin) Logged(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(p.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Weave runs the CLI `weave` on the host and returns its output. If it fails, so does t.
func (h *Host) Weave(t testing.TB, args ...string) string {
	t.Helper()
	return h.Exec(t, weave, args...)
}

// WeaveErr is Weave for a command that may fail.
func (h *Host) WeaveErr(args ...string) (string, error) { return h.ExecErr(weave, args...) }
