package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
)

const dockerSocket = "/run/docker.sock"

func (h *Host) engineLog() string { return filepath.Join(h.dir, "engine.log") }

// StartEngine starts the host's Docker Engine and waits until it answers.
func (h *Host) StartEngine(t testing.TB) {
	t.Helper()
	h.LaunchEngine(t)
	h.AwaitEngine(t)
}

// LaunchEngine starts the host's Docker Engine and doesn't wait for it.
func (h *Host) LaunchEngine(t testing.TB) {
	t.Helper()
	// An engine that was killed leaves the file, and the id in it may be another process's by now.
	if err := os.RemoveAll(h.Path("/run/docker.pid")); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"dockerd", "-H", "unix://" + dockerSocket, "--exec-opt", "native.cgroupdriver=cgroupfs",
		"--cgroup-parent", "/" + h.cgroup(), "--insecure-registry", "127.0.0.0/8"}, h.options.Engine...)
	var err error
	if h.engine, err = h.start(h.engineLog(), nil, args...); err != nil {
		t.Fatalf("start the engine of host %s: %v", h.options.Name, err)
	}
}

// AwaitEngine waits until the host's Docker Engine answers, and starts the containers that it has given up.
func (h *Host) AwaitEngine(t testing.TB) {
	t.Helper()
	Eventually(t, time.Minute, "engine of host "+h.options.Name, func() error {
		if !h.engine.alive() {
			t.Fatalf("engine of host %s ended: %v\n%s", h.options.Name, h.engine.err, tail(h.engineLog(), 0))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return h.ping(ctx)
	})
	h.startGivenUp(t)
}

// staleTask is why an engine that was killed gives up a container that it is to start always: containerd still has the
// container's last process, which the engine has lost sight of (moby#40613).
var staleTask = regexp.MustCompile(`^(task [0-9a-f]+: already exists|id already in use)$`)

// startGivenUp ends the stale tasks of the containers that the engine has given up for them, and starts these. The engine
// tries each of its starts once, before it answers (restore in moby's daemon/daemon.go).
func (h *Host) startGivenUp(t testing.TB) {
	t.Helper()
	for _, id := range strings.Fields(h.Docker(t, "ps", "-aq", "--no-trunc", "--filter", "status=exited")) {
		var c struct{ State struct{ Error string } }
		h.Inspect(t, id, &c)
		if !staleTask.MatchString(c.State.Error) {
			continue
		}
		t.Logf("the engine has given up container %s: %s", id, c.State.Error)
		Eventually(t, 10*time.Second, "start of "+id, func() error {
			_, ended := h.ExecErr("ctr", "-a", "/run/docker/containerd/containerd.sock", "-n", "moby", "task", "delete", "--force", id)
			if _, err := h.DockerErr("start", id); err != nil {
				return errors.Join(ended, err)
			}
			return nil
		})
	}
}

// ping asks the engine whether it is there.
func (h *Host) ping(ctx context.Context) error {
	transport := api.UnixTransport(h.Path(dockerSocket))
	transport.DisableKeepAlives = true
	client := http.Client{Transport: transport}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ping the engine: %s", response.Status)
	}
	return nil
}

// StopEngine ends the engine as an administrator does: it stops the containers first.
func (h *Host) StopEngine(t testing.TB) {
	t.Helper()
	if err := h.engine.terminate(commandTimeout); err != nil {
		t.Fatalf("stop the engine of host %s: %v", h.options.Name, err)
	}
}

// KillEngine ends the engine with SIGKILL. Containers and plugins stay.
func (h *Host) KillEngine(t testing.TB) {
	t.Helper()
	h.engine.kill()
}

// dockerCLI is the docker CLI of Debian's package, which any engine understands: a newer one that may come before it in
// the PATH refuses some options for an older engine (a MAC address below API 1.44).
func dockerCLI() string {
	const packaged = "/usr/bin/docker"
	if _, err := os.Stat(packaged); err == nil {
		return packaged
	}
	return "docker"
}

// DockerCommand is a command of this machine's docker CLI to the host's engine.
func (h *Host) DockerCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, dockerCLI(), append([]string{"-H", "unix://" + h.Path(dockerSocket)}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+h.dir)
	return cmd
}

// Docker runs a docker command and returns its output. If it fails, so does t.
func (h *Host) Docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := h.DockerErr(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// DockerErr runs a docker command and returns its output, less the last newline. The error holds what the CLI said.
func (h *Host) DockerErr(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, err := output(h.DockerCommand(ctx, args...))
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	return out, err
}

// Inspect decodes what `docker inspect` says of an object into v.
func (h *Host) Inspect(t testing.TB, object string, v any) {
	t.Helper()
	out := h.Docker(t, "inspect", "-f", "{{json .}}", object)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("inspect %s: %v", object, err)
	}
}

// CreateNetwork creates a Docker network, with the options given, that lasts as long as t.
func (h *Host) CreateNetwork(t testing.TB, name string, options ...string) {
	t.Helper()
	args := append([]string{"network", "create"}, options...)
	h.Docker(t, append(args, name)...)
	t.Cleanup(func() {
		// An engine may still be letting go of the endpoints of containers that were removed while it started them.
		err := Poll(10*time.Second, func() error { return h.removeNetwork(t, name) })
		switch {
		case err == nil:
		case h.Docker(t, "network", "inspect", "-f", "{{len .Containers}}", name) == "0":
			t.Logf("the engine has no endpoint on network %s, but counts some (moby#42119)", name)
		default:
			t.Errorf("removal of network %s: %v", name, err)
		}
	})
}

// removeNetwork removes a network, if it is there. The error is that it is in use; any other fails t.
func (h *Host) removeNetwork(t testing.TB, name string) error {
	t.Helper()
	out, err := h.DockerErr("network", "rm", name)
	if err != nil && strings.Contains(err.Error(), "has active endpoints") {
		return err
	}
	if err != nil && !gone(err) {
		t.Errorf("%v %s", err, out)
	}
	return nil
}

// Run runs a container of the lab's image in the background, as long as t, and returns its id. The arguments are those
// of `docker run` before the image's name; the container idles.
func (h *Host) Run(t testing.TB, args ...string) string {
	t.Helper()
	return h.RunCommand(t, args)
}

// RunCommand is Run for a container that does something: args come before the image's name, command after it.
func (h *Host) RunCommand(t testing.TB, args []string, command ...string) string {
	t.Helper()
	full := append([]string{"run", "-d"}, args...)
	id := h.Docker(t, append(append(full, Image), command...)...)
	id = id[strings.LastIndex(id, "\n")+1:]
	t.Cleanup(func() {
		if out, err := h.DockerErr("rm", "-f", id); err != nil && !gone(err) {
			t.Errorf("%v %s", err, out)
		}
	})
	return id
}

// gone says whether docker's complaint is that the object is not there.
func gone(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "no such") || strings.Contains(text, "not found")
}
