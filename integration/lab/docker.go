// SPDX-License-Identifier: Apache-2.0

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
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
)

// DockerSocket is where Docker's API is on a host.
const DockerSocket = "/run/docker.sock"

func (h *Host) dockerLog() string { return filepath.Join(h.dir, "docker.log") }

// DockerLogged returns the whole log of the host's Docker Engine.
func (h *Host) DockerLogged(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(h.dockerLog())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// StartDocker starts the host's Docker Engine and waits until its API answers.
func (h *Host) StartDocker(t testing.TB) {
	t.Helper()
	h.LaunchDocker(t)
	h.AwaitDocker(t)
}

// LaunchDocker starts the host's Docker Engine and doesn't wait for it.
func (h *Host) LaunchDocker(t testing.TB) {
	t.Helper()
	// Docker does not start if this file names a process that runs. After a kill the file is left, and its process id
	// may belong to another process by now.
	if err := os.RemoveAll(h.Path("/run/docker.pid")); err != nil {
		t.Fatal(err)
	}
	// With nftables Docker does not start unless the host forwards, which it does not switch on by itself.
	if slices.Contains(h.options.DockerArgs, "--firewall-backend=nftables") {
		h.Exec(t, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	}
	args := append([]string{"dockerd", "-H", "unix://" + DockerSocket, "--exec-opt", "native.cgroupdriver=cgroupfs",
		"--cgroup-parent", "/" + h.cgroup(), "--insecure-registry", "127.0.0.0/8"}, h.options.DockerArgs...)
	// Docker 29 speaks only with clients of its last years, unless it is told to; docker-compose's own tests are older.
	env := []string{"DOCKER_MIN_API_VERSION=1.24"}
	var err error
	if h.dockerd, err = h.start(h.dockerLog(), env, args...); err != nil {
		t.Fatalf("start Docker on host %s: %v", h.options.Name, err)
	}
}

// AwaitDocker waits until the API of the host's Docker Engine answers. It also starts the containers that Docker did
// not manage to restart, see startGivenUp.
func (h *Host) AwaitDocker(t testing.TB) {
	t.Helper()
	Eventually(t, time.Minute, "Docker on host "+h.options.Name, func() error {
		if !h.dockerd.alive() {
			t.Fatalf("Docker on host %s ended: %v\n%s", h.options.Name, h.dockerd.err, tail(h.dockerLog(), 0))
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return h.ping(ctx)
	})
	h.startGivenUp(t)
}

// staleTask matches the errors with which Docker, after it was killed, fails to restart a container that has a restart
// policy: containerd still has a task for the container's last process, which Docker no longer tracks (moby#40613).
var staleTask = regexp.MustCompile(`^(task [0-9a-f]+: already exists|id already in use)$`)

// startGivenUp starts the containers that Docker failed to restart because of a stale task, after it has deleted the
// task, as a user would. Docker tries each restart once, before its API answers (restore in moby's daemon/daemon.go).
func (h *Host) startGivenUp(t testing.TB) {
	t.Helper()
	for _, id := range strings.Fields(h.Docker(t, "ps", "-aq", "--no-trunc", "--filter", "status=exited")) {
		var c struct{ State struct{ Error string } }
		h.Inspect(t, id, &c)
		if !staleTask.MatchString(c.State.Error) {
			continue
		}
		t.Logf("Docker failed to restart container %s: %s", id, c.State.Error)
		Eventually(t, 10*time.Second, "start of "+id, func() error {
			_, ended := h.ExecErr("ctr", "-a", "/run/docker/containerd/containerd.sock", "-n", "moby",
				"task", "delete", "--force", id)
			if _, err := h.DockerErr("start", id); err != nil {
				return errors.Join(ended, err)
			}
			return nil
		})
	}
}

// ping returns nil if Docker's API answers.
func (h *Host) ping(ctx context.Context) error {
	transport := api.UnixTransport(h.Path(DockerSocket))
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
		return fmt.Errorf("ping Docker: %s", response.Status)
	}
	return nil
}

// StopDocker ends the host's Docker Engine with SIGTERM, as an administrator does: Docker stops the containers first.
func (h *Host) StopDocker(t testing.TB) {
	t.Helper()
	if err := h.dockerd.terminate(commandTimeout); err != nil {
		t.Fatalf("stop Docker on host %s: %v", h.options.Name, err)
	}
}

// KillDocker ends the host's Docker Engine with SIGKILL. Containers and plugins keep running.
func (h *Host) KillDocker(t testing.TB) {
	t.Helper()
	h.dockerd.kill()
}

// dockerCLI returns the path of the docker command of Debian's package, which works with every version of the Docker
// Engine. Another one in the PATH may be newer and refuse some options for an older Engine (a MAC address below API
// 1.44).
func dockerCLI() string {
	const packaged = "/usr/bin/docker"
	if _, err := os.Stat(packaged); err == nil {
		return packaged
	}
	return "docker"
}

// DockerCommand returns a command that runs this machine's docker CLI with the host's Docker Engine.
func (h *Host) DockerCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, dockerCLI(), append([]string{"-H", "unix://" + h.Path(DockerSocket)}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+h.dir)
	return cmd
}

// Docker runs a docker command and returns its output. It fails t if the command fails.
func (h *Host) Docker(t testing.TB, args ...string) string {
	t.Helper()
	out, err := h.DockerErr(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// DockerErr runs a docker command and returns its output without the last newline. The error contains the command's
// standard error.
func (h *Host) DockerErr(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	out, err := output(h.DockerCommand(ctx, args...))
	if err != nil && ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	return out, err
}

// Inspect decodes the output of `docker inspect` for a container or a network, by name or id, into v.
func (h *Host) Inspect(t testing.TB, name string, v any) {
	t.Helper()
	out := h.Docker(t, "inspect", "-f", "{{json .}}", name)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("inspect %s: %v", name, err)
	}
}

// CreateNetwork creates a Docker network with the given options of `docker network create`. It is removed at the end
// of t, if the host is on then.
func (h *Host) CreateNetwork(t testing.TB, name string, options ...string) {
	t.Helper()
	args := append([]string{"network", "create"}, options...)
	h.Docker(t, append(args, name)...)
	t.Cleanup(func() {
		if !h.IsOn() {
			return
		}
		// Docker may still be deleting the endpoints of containers that were removed while it started them.
		err := Poll(10*time.Second, func() error { return h.removeNetwork(t, name) })
		switch {
		case err == nil:
		case h.Docker(t, "network", "inspect", "-f", "{{len .Containers}}", name) == "0":
			t.Logf("Docker has no endpoint on network %s, but still counts some (moby#42119)", name)
		default:
			t.Errorf("removal of network %s: %v", name, err)
		}
	})
}

// removeNetwork removes a network if it exists. It returns an error if the network is in use; any other error fails t.
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

// Run starts a container of the lab's image, which idles, and returns its id. The arguments are those of `docker run`
// before the image's name. The container is removed at the end of t, if the host is on then.
func (h *Host) Run(t testing.TB, args ...string) string {
	t.Helper()
	return h.RunCommand(t, args)
}

// RunCommand is like Run for a container with a command of its own: args come before the image's name, command after
// it.
func (h *Host) RunCommand(t testing.TB, args []string, command ...string) string {
	t.Helper()
	full := append([]string{"run", "-d"}, args...)
	id := h.Docker(t, append(append(full, Image), command...)...)
	id = id[strings.LastIndex(id, "\n")+1:] // Docker may have printed warnings before it
	t.Cleanup(func() {
		if !h.IsOn() {
			return
		}
		if out, err := h.DockerErr("rm", "-f", id); err != nil && !gone(err) {
			t.Errorf("%v %s", err, out)
		}
	})
	return id
}

// gone reports whether err is Docker's error for a network or container that does not exist.
func gone(err error) bool {
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "no such") || strings.Contains(text, "not found")
}
