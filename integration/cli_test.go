package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// makeInstall runs `make install` and returns the directory of the installed files.
func makeInstall(t *testing.T, destination, prefix string) string {
	t.Helper()
	build := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "make", "-C", "..", "install", "DESTDIR="+destination, "PREFIX="+prefix,
		"BIN="+filepath.Join(build, "bin"), "DOCS="+filepath.Join(build, "docs")).CombinedOutput()
	if err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	return filepath.Join(destination, prefix)
}

// command runs a command of this machine and returns all of its output; it skips t where there is no such command.
func command(t *testing.T, environment string, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s here; integration/install.sh installs it", name)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append(os.Environ(), environment)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A host with an engine and an installed weave: the daemon finds its nsproc, the command the daemon, and docker both.
func TestDockerWeave(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "installed"})
	if _, err := h.ExecErr("sh", "-c", "command -v docker"); err != nil {
		t.Skip("the host has no docker command")
	}
	out, err := h.ExecErr("docker", "weave", "ps")
	if err == nil {
		t.Fatalf("docker has a weave before it is installed: %s", out)
	}
	makeInstall(t, h.Path("/"), "/usr/local")

	out, err = h.ExecErr("docker", "weave", "ps")
	if err == nil {
		t.Errorf("a listing without a weave that runs: %s", out)
	}
	want(t, fmt.Sprint(err, out), "weave is not running", "systemctl status weave")

	h.Exec(t, "sh", "-c", "/usr/local/bin/weave serve >/run/weave.log 2>&1 &")
	lab.Eventually(t, 10*time.Second, "the installed weave", func() error {
		_, err := h.ExecErr("/usr/local/bin/weave", "status")
		return err
	})
	weaveNetwork(t, h, "app")
	id := h.Run(t, "--network", "app", "--name", "web")
	awaitEndpoints(t, h, 1) // nsproc's answer, too
	lab.Eventually(t, 10*time.Second, "names in the listing", func() error {
		if e := endpoints(t, h, api.Query{})[0]; e.ContainerName == "" || e.NetworkName == "" {
			return fmt.Errorf("endpoint %s has no names", e.ID)
		}
		return nil
	})

	address := attachmentOf(t, h, "web", "app").IPAddress
	for _, args := range []string{
		"docker weave ps", "docker weave ps web --live=nsproc", "docker -H unix:///run/docker.sock --log-level info weave ps --network app",
	} {
		want(t, h.Exec(t, "sh", "-c", args), id[:12], "web", "app", address)
	}
	want(t, h.Exec(t, "docker", "weave", "ps", "--help"), "docker weave ps [CONTAINER...]")
	want(t, h.Exec(t, "docker", "help"), "A network and IPAM plugin for Docker")
	out, err = h.ExecErr("docker", "-H", "tcp://192.0.2.7:2376", "weave", "ps")
	if err == nil {
		t.Errorf("this machine's endpoints for another machine's engine: %s", out)
	}
	want(t, fmt.Sprint(err, out), "another machine's Docker (host tcp://192.0.2.7:2376)")
}

func TestManPagesAndCompletions(t *testing.T) {
	dir := makeInstall(t, t.TempDir(), "/usr")
	share := filepath.Join(dir, "share")

	t.Run("man", func(t *testing.T) {
		pages, err := filepath.Glob(filepath.Join(share, "man/man8/*.8"))
		if err != nil || len(pages) < 6 {
			t.Fatalf("pages %v, %v", pages, err)
		}
		for _, page := range pages {
			text := command(t, "MAN_KEEP_STDERR=1", "man", "--warnings", "-E", "UTF-8", "-l", page)
			name := strings.TrimSuffix(filepath.Base(page), ".8")
			want(t, text, "NAME\n", name+" - ")
			for line := range strings.Lines(text) {
				if strings.Contains(line, "warning:") {
					t.Errorf("%s: %s", name, line)
				}
			}
		}
		serve, err := os.ReadFile(filepath.Join(share, "man/man8/weave-serve.8"))
		if err != nil {
			t.Fatal(err)
		}
		want(t, string(serve), "state", "WEAVE_STATE", "/var/lib/weave/weave.db")
	})
	t.Run("bash", func(t *testing.T) {
		want(t, command(t, "F="+filepath.Join(share, "bash-completion/completions/weave"), "bash", "-c", `. "$F" && complete -p weave`), "__start_weave")
	})
	t.Run("zsh", func(t *testing.T) {
		functions := filepath.Join(share, "zsh/site-functions")
		want(t, command(t, "F="+functions, "zsh", "-fc", `fpath=($F $fpath); autoload -Uz compinit; compinit -D -u; autoload +X _weave && print $_comps[weave]`), "_weave")
	})
	t.Run("fish", func(t *testing.T) {
		script := filepath.Join(share, "fish/vendor_completions.d/weave.fish")
		want(t, command(t, "F="+script, "fish", "--no-config", "-c", `source $F; and complete weave`), "__weave_prepare_completions")
	})
}

// The unit is one that systemd takes, with its man page and its command, and hardened: of 100 points of exposure it
// has 34, most of them for the host's network, its namespaces and root, which are what weave is about.
func TestUnit(t *testing.T) {
	dir := makeInstall(t, "", t.TempDir())
	unit := filepath.Join(dir, "lib/systemd/system/weave.service")
	if out := command(t, "MANPATH="+filepath.Join(dir, "share/man"), "systemd-analyze", "verify", unit); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	command(t, "", "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=35", unit)

	text, err := os.ReadFile(unit)
	if err != nil {
		t.Fatal(err)
	}
	want(t, string(text), "\nBefore=docker.service\n", "\nType=notify\n", "\nExecStart="+dir+"/bin/weave serve\n")
}

// dockerUnit runs the lab's engine as Debian's docker.service runs its own.
const dockerUnit = `[Service]
Type=notify
ExecStart=/usr/sbin/dockerd -H unix:///run/docker.sock --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /containers
`

// The installed unit under a systemd of its own: weave is ready when the engine starts, sees the sandboxes that the
// engine mounts later, and its nsproc may enter and configure them.
func TestUnitRuns(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "systemd", NoEngine: true})
	s := h.StartSystemd(t)
	makeInstall(t, h.Path("/"), "/usr/local")
	if err := os.WriteFile(h.Path("/etc/systemd/system/docker.service"), []byte(dockerUnit), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "systemctl", "daemon-reload")
	s.Exec(t, "systemctl", "enable", "weave.service")
	s.Exec(t, "systemctl", "start", "docker.service") // which wants weave
	ready := s.Exec(t, "systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", "weave.service")
	asked := s.Exec(t, "systemctl", "show", "-P", "ExecMainStartTimestampMonotonic", "docker.service")
	if len(ready) > len(asked) || len(ready) == len(asked) && ready >= asked {
		t.Errorf("weave is ready at %s us, the engine starts at %s", ready, asked)
	}

	h.ImportImage(t)
	weaveNetwork(t, h, "app", "--ipv6", "--ipam-driver", "weave")
	h.Run(t, "--network", "app", "--name", "web")
	h.Run(t, "--network", "app", "--name", "client")
	ping(t, h, "client", "web")
	awaitEndpoints(t, h, 2)
	for _, container := range []string{"web", "client"} {
		lab.Eventually(t, 10*time.Second, "router advertisements are refused in "+container, func() error {
			if v, err := h.DockerErr("exec", container, "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"); err != nil || v != "0" {
				return fmt.Errorf("accept_ra %q, error %v", v, err)
			}
			return nil
		})
	}

	s.Exec(t, "systemctl", "restart", "weave.service")
	awaitEndpoints(t, h, 2)
	s.Exec(t, "systemctl", "stop", "weave.service")
	if state := s.Exec(t, "systemctl", "show", "-P", "Result", "weave.service"); state != "success" {
		t.Errorf("weave stopped: %s\n%s", state, s.Logged(t))
	}
	s.Exec(t, "systemctl", "start", "weave.service") // for the end of the network
	if logged := s.Logged(t); strings.Contains(logged, "level=error") {
		t.Errorf("errors in the log:\n%s", logged)
	}
}
