// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

var makeInstallMu sync.Mutex // `make install` writes the documentation to the same folder each time

// makeInstall runs `make install` and returns the directory with the installed files.
func makeInstall(t *testing.T, destination, prefix string) string {
	t.Helper()
	lab.Binaries(t) // so that `make install` has nothing left to build
	makeInstallMu.Lock()
	defer makeInstallMu.Unlock()
	run(t, "make", "-C", "..", "install", "DESTDIR="+destination, "PREFIX="+prefix)
	return filepath.Join(destination, prefix)
}

// command runs a command of this machine, with an environment variable, and returns all of its output. It skips t if
// the machine has no such command.
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

// An installed weave works without any settings: the daemon finds nsproc, the command line finds the daemon, and docker
// finds the command line.
func TestDockerWeave(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "installed"})
	if _, err := h.ExecErr("sh", "-c", "command -v docker"); err != nil {
		t.Skip("the host has no docker command")
	}
	out, err := h.ExecErr("docker", "weave", "ps")
	if err == nil {
		t.Fatalf("docker weave works before the installation: %s", out)
	}
	makeInstall(t, h.Path("/"), "/usr/local")

	out, err = h.ExecErr("docker", "weave", "ps")
	if err == nil {
		t.Errorf("a listing while weave does not run: %s", out)
	}
	want(t, fmt.Sprint(err, out), "weave is not running", "systemctl status weave")

	h.Exec(t, "sh", "-c", "/usr/local/bin/weave serve >/run/weave.log 2>&1 &")
	lab.Eventually(t, 10*time.Second, "the installed weave", func() error {
		_, err := h.ExecErr("/usr/local/bin/weave", "status")
		return err
	})
	weaveNetwork(t, h, "app")
	id := h.Run(t, "--network", "app", "--name", "web")
	awaitEndpoints(t, h, 1) // by nsproc, too
	lab.Eventually(t, 10*time.Second, "names in the listing", func() error {
		if e := endpoints(t, h, api.Query{})[0]; e.ContainerName == "" || e.NetworkName == "" {
			return fmt.Errorf("endpoint %s has no names", e.ID)
		}
		return nil
	})

	address := attachmentOf(t, h, "web", "app").IPAddress
	for _, args := range []string{
		"docker weave ps",
		"docker weave ps web --live=nsproc",
		"docker -H unix:///run/docker.sock --log-level info weave ps --network app",
	} {
		want(t, h.Exec(t, "sh", "-c", args), id[:12], "web", "app", address)
	}
	want(t, h.Exec(t, "docker", "weave", "ps", "--help"), "docker weave ps [CONTAINER...]")
	want(t, h.Exec(t, "docker", "help"), "A network and IPAM plugin for Docker")
	out, err = h.ExecErr("docker", "-H", "tcp://192.0.2.7:2376", "weave", "ps")
	if err == nil {
		t.Errorf("this machine's endpoints for another machine's Docker: %s", out)
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
			want(t, text, "NAME\n")
			want(t, strings.Join(strings.Fields(text), " "), name+" - ") // man puts further spaces into a full line
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
		file := filepath.Join(share, "bash-completion/completions/weave")
		want(t, command(t, "F="+file, "bash", "-c", `. "$F" && complete -p weave`), "__start_weave")
	})
	t.Run("zsh", func(t *testing.T) {
		folder := filepath.Join(share, "zsh/site-functions")
		const script = "fpath=($F $fpath); autoload -Uz compinit; compinit -D -u; " +
			"autoload +X _weave && print $_comps[weave]"
		want(t, command(t, "F="+folder, "zsh", "-fc", script), "_weave")
	})
	t.Run("fish", func(t *testing.T) {
		file := filepath.Join(share, "fish/vendor_completions.d/weave.fish")
		const script = "source $F; and complete weave"
		want(t, command(t, "F="+file, "fish", "--no-config", "-c", script), "__weave_prepare_completions")
	})
}

// systemd accepts the unit file, finds the man page and the command that it names, and rates its exposure below 3.5
// of 10: what remains is the host's network, namespaces and root, which weave cannot do without.
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

// dockerUnit starts dockerd as Debian's docker.service does, with the options that it needs on a lab's host.
const dockerUnit = `[Service]
Type=notify
ExecStart=/usr/sbin/dockerd -H unix:///run/docker.sock \
	--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /containers
`

// With the installed unit, weave is ready before Docker starts, it sees the sandboxes that Docker mounts later, and its
// nsproc may enter and configure them.
func TestUnitRuns(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "systemd", NoDocker: true})
	s := h.StartSystemd(t)
	makeInstall(t, h.Path("/"), "/usr/local")
	if err := os.WriteFile(h.Path("/etc/systemd/system/docker.service"), []byte(dockerUnit), 0o644); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "systemctl", "daemon-reload")
	s.Exec(t, "systemctl", "enable", "weave.service")
	s.Exec(t, "systemctl", "start", "docker.service") // which wants weave
	ready := s.Exec(t, "systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", "weave.service")
	docker := s.Exec(t, "systemctl", "show", "-P", "ExecMainStartTimestampMonotonic", "docker.service")
	if len(ready) > len(docker) || len(ready) == len(docker) && ready >= docker {
		t.Errorf("weave is ready at %s µs, Docker starts at %s µs", ready, docker)
	}

	h.ImportImage(t)
	weaveNetwork(t, h, "app", "--ipv6", "--ipam-driver", "weave")
	h.Run(t, "--network", "app", "--name", "web")
	h.Run(t, "--network", "app", "--name", "client")
	ping(t, h, "client", "web")
	awaitEndpoints(t, h, 2)
	for _, e := range endpoints(t, h, api.Query{}) { // the unit lets weave load them
		checkPrograms(t, h, e)
	}
	if w := strings.Join(status(t, h).Warnings, "; "); strings.Contains(w, "CAP_NET_BROADCAST") {
		t.Errorf("the unit does not let weave hear of changes in containers: %s", w)
	}

	s.Exec(t, "systemctl", "restart", "weave.service")
	awaitEndpoints(t, h, 2)
	s.Exec(t, "systemctl", "stop", "weave.service")
	if state := s.Exec(t, "systemctl", "show", "-P", "Result", "weave.service"); state != "success" {
		t.Errorf("weave stopped: %s\n%s", state, s.Logged(t))
	}
	s.Exec(t, "systemctl", "start", "weave.service") // for the removal of the network
	if logged := s.Logged(t); strings.Contains(logged, "level=error") {
		t.Errorf("errors in the log:\n%s", logged)
	}
}
