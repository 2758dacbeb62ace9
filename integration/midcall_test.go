// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/integration/lab"
)

// Docker waits for a plugin that does not run yet: one that is started meanwhile serves the call.
func TestPluginStartsWhileDockerWaits(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "late"})
	created := inBackground(h, "network", "create", "-d", "weave", "--ipam-driver", "weave", "--internal", "app")
	lab.Eventually(t, 10*time.Second, "Docker waits for the plugin", func() error {
		if !strings.Contains(h.DockerLogged(t), "retrying in") {
			return errors.New("its log does not say so")
		}
		return nil
	})
	h.StartPlugin(t)
	if err := <-created; err != nil {
		t.Fatal(err)
	}
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	ping(t, h, "one", "two")
}

// inBackground runs a docker command in the background and sends its error when it has ended, which it does within the
// lab's time limit for commands.
func inBackground(h *lab.Host, args ...string) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := h.DockerErr(args...)
		ended <- err
	}()
	return ended
}

// The plugin is killed while Docker waits for its reply, and restarted at once. Docker repeats the call, with the
// request or with an empty body, which weave refuses. In both cases Docker gets a reply, and nothing is left of a
// refused call.
func TestPluginIsKilledWhileDockerWaits(t *testing.T) {
	h, p := startHost(t, "midcall", compareOften)
	ipamNetwork(t, h, "ours", "--internal")
	weaveNetwork(t, h, "dockers", "--internal")
	h.Run(t, "--network", "ours", "--name", "dockers-guest") // named after the network that it is connected to below
	h.Run(t, "--network", "dockers", "--name", "ours-guest")
	t.Cleanup(func() { p.Restart(t) }) // a plugin that is still suspended would block the removals at the end of t
	interrupt := func(args ...string) error {
		t.Helper()
		p.Suspend(t)
		ended := inBackground(h, args...)
		awaitCall(t, h)
		p.Restart(t)
		err := <-ended
		if err != nil && strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Fatalf("docker %s does not end", strings.Join(args, " "))
		}
		return err
	}
	before := records(t, h, p)

	for _, network := range []string{"ours", "dockers"} {
		guest := network + "-guest"
		for _, c := range []struct{ command, undo string }{
			{"network create -d weave --ipam-driver weave new", "network rm new"},
			{"run -d --name new --network " + network + " " + lab.Image, "rm -f new"},
			{"network connect " + network + " " + guest, "network disconnect " + network + " " + guest},
		} {
			err := interrupt(strings.Fields(c.command)...)
			if _, undone := h.DockerErr(strings.Fields(c.undo)...); err == nil && undone != nil {
				t.Errorf("docker %s succeeded, but docker %s fails: %v", c.command, c.undo, undone)
			}
			t.Logf("docker %s: %v", c.command, err)
		}
		h.Docker(t, "network", "connect", network, guest)
		ping(t, h, "dockers-guest", "ours-guest")

		// A removal succeeds in Docker whatever the plugin replies.
		if err := interrupt("network", "disconnect", network, guest); err != nil {
			t.Error(err)
		}
		h.Run(t, "--network", network, "--name", "short")
		if err := interrupt("rm", "-f", "short"); err != nil {
			t.Error(err)
		}
		ipamNetwork(t, h, "short", "--internal")
		if err := interrupt("network", "rm", "short"); err != nil {
			t.Error(err)
		}
		awaitEndpoints(t, h, 2)
	}
	// Docker 28 ignores errors when it releases a pool. weave finds such a pool in a comparison that it makes now and
	// then.
	lab.Eventually(t, time.Minute, "the state as before the calls", func() error {
		now, err := recordsNow(t, h)
		if diff := cmp.Diff(before, now); err == nil && diff != "" {
			err = fmt.Errorf("(-before +after):\n%s", diff)
		}
		return err
	})
	h.Docker(t, "rm", "-f", "ours-guest", "dockers-guest")
	awaitNoEndpoints(t, h)
}

// The plugin is killed while Docker waits for its reply, and not restarted: Docker gives up.
func TestPluginDiesWhileDockerWaits(t *testing.T) {
	h, p := startHost(t, "dies")
	ipamNetwork(t, h, "app", "--internal")
	weaveNetwork(t, h, "other", "--internal")
	h.Run(t, "--network", "app", "--name", "one")
	before := records(t, h, p)

	t.Cleanup(func() { p.Restart(t) }) // for the removals at the end of t
	p.Suspend(t)
	commands := [][]string{
		{"network", "create", "-d", "weave", "--ipam-driver", "weave", "never"},
		{"run", "-d", "--name", "never", "--network", "app", lab.Image},
		{"network", "connect", "other", "one"},
	}
	var ended []<-chan error
	for _, command := range commands {
		ended = append(ended, inBackground(h, command...))
	}
	awaitCall(t, h)
	p.Kill()
	for i, command := range commands {
		if err := <-ended[i]; err == nil {
			t.Errorf("docker %s: no error, although the plugin is gone", strings.Join(command, " "))
		} else if strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("docker %s does not end", strings.Join(command, " "))
		}
	}
	p.Restart(t)
	h.Docker(t, "rm", "-f", "never")
	awaitEndpoints(t, h, 1)
	if diff := cmp.Diff(before, records(t, h, p)); diff != "" {
		t.Errorf("the state has (-before +after):\n%s", diff)
	}
	h.Docker(t, "network", "connect", "other", "one")
	awaitEndpoints(t, h, 2)
}

// awaitCall waits until Docker has sent a call to a plugin that is suspended and so does not read it.
func awaitCall(t *testing.T, h *lab.Host) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "a call by Docker", func() error {
		sockets := h.Exec(t, "ss", "-Hxan")
		for line := range strings.Lines(sockets) {
			fields := strings.Fields(line) // u_str STATE RECV-Q SEND-Q ADDRESS ..., the server's address
			if len(fields) > 4 && strings.HasPrefix(fields[4], filepath.Dir(lab.PluginSocket)) && fields[2] != "0" {
				return nil
			}
		}
		return errors.New(sockets)
	})
}
