package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/store"
)

// dockerEnds are the ways in which Docker ends.
var dockerEnds = []struct {
	name string
	end  func(*lab.Host, testing.TB)
}{
	{"stopped", (*lab.Host).StopDocker},
	{"killed", (*lab.Host).KillDocker},
}

// Containers that Docker restarts have the addresses and MACs that their user chose, and weave lists them with these,
// whether their addresses come from weave or from Docker.
func TestContainersComeBackWithDocker(t *testing.T) {
	const each = 10 // containers on each of the two networks
	h, _ := startHost(t, "comeback")
	ipamNetwork(t, h, "ours", "--subnet", "10.71.0.0/24")
	weaveNetwork(t, h, "dockers", "--subnet", "10.72.0.0/24")
	chosen := map[string]attachment{}
	for i := range each {
		for n, network := range []string{"ours", "dockers"} {
			a := attachment{}
			if i%2 == 0 {
				a.IPAddress = fmt.Sprintf("10.%d.0.%d", 71+n, 100+i)
			}
			if i%3 == 0 {
				a.MacAddress = fmt.Sprintf("02:42:00:00:%02d:%02d", 71+n, i)
			}
			chosen[fmt.Sprintf("%s%d", network, i)] = a
		}
	}
	names := slices.Sorted(maps.Keys(chosen))
	inParallel(t, 4, len(names), func(i int) error {
		a, name := chosen[names[i]], names[i]
		network := strings.TrimRight(name, "0123456789")
		args := []string{"run", "-d", "--restart", "always", "--name", name, "--network", network}
		if a.IPAddress != "" {
			args = append(args, "--ip", a.IPAddress)
		}
		if a.MacAddress != "" {
			args = append(args, "--mac-address", a.MacAddress)
		}
		_, err := h.DockerErr(append(args, lab.Image)...)
		return err
	})
	awaitAgreement(t, h, names)

	for _, docker := range dockerEnds {
		docker.end(h, t)
		h.StartDocker(t)
		for name, a := range awaitAgreement(t, h, names) {
			wanted := chosen[name]
			if wanted.IPAddress != "" && a.IPAddress != wanted.IPAddress ||
				wanted.MacAddress != "" && a.MacAddress != wanted.MacAddress {
				t.Errorf("after Docker was %s, %s has %+v, want %+v", docker.name, name, a, wanted)
			}
		}
		awaitRunning(t, h, "ours0", "ours1")
		awaitRunning(t, h, "dockers0", "dockers1")
	}
	h.Docker(t, append([]string{"rm", "-f"}, names...)...)
}

// awaitAgreement waits until the containers run, each on one network, and weave lists the endpoint of each with the
// MAC and address that Docker has, up and without drift. It returns Docker's description of the attachments by
// container.
func awaitAgreement(t *testing.T, h *lab.Host, names []string) map[string]attachment {
	t.Helper()
	var found map[string]attachment
	what := fmt.Sprintf("%d containers that run, with the same endpoints in Docker and in weave", len(names))
	lab.Eventually(t, time.Minute, what, func() error {
		listed := map[string]api.Endpoint{}
		for _, e := range endpoints(t, h, api.Query{Live: api.Kernel}) {
			listed[e.ID] = e
		}
		out, err := h.DockerErr(append([]string{"inspect"}, names...)...)
		if err != nil {
			return err
		}
		var containers []struct {
			State           struct{ Status, Error string }
			NetworkSettings struct{ Networks map[string]attachment }
		}
		if err := json.Unmarshal([]byte(out), &containers); err != nil {
			return err
		}
		found = map[string]attachment{}
		for i, c := range containers {
			attached := c.NetworkSettings.Networks
			for _, a := range attached {
				found[names[i]] = a
			}
			a := found[names[i]]
			e := listed[a.EndpointID]
			if c.State.Status != "running" || len(attached) != 1 || e.State != api.Up || len(e.Drift) > 0 ||
				e.MAC != a.MacAddress || e.Addresses[0].Addr().String() != a.IPAddress {
				return fmt.Errorf("%s: Docker: %+v; weave: %+v", names[i], c, e)
			}
		}
		return nil
	})
	return found
}

// With live-restore, containers keep running while Docker is stopped or killed, and no packet is lost.
func TestLiveRestore(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "live", DockerArgs: []string{"--live-restore"}})
	p := h.StartPlugin(t)
	// Not --internal: Docker loses track of the links of a container without a gateway (libnetwork's
	// restoreOslSandbox), and then can't connect it to another network.
	ipamNetwork(t, h, "app")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	before := tracked(t, h)
	for _, docker := range dockerEnds {
		stream := pingFast(t, h, before[0], before[1])
		docker.end(h, t)
		h.StartDocker(t)
		after := tracked(t, h)
		stream.stop(t, "Docker "+docker.name)
		if diff := cmp.Diff(before, after, cmpAddresses); diff != "" {
			t.Errorf("endpoints after Docker was %s (-before +after):\n%s", docker.name, diff)
		}
		// Docker manages the containers and their endpoints again.
		weaveNetwork(t, h, "other", "--internal")
		h.Docker(t, "network", "connect", "other", "one")
		awaitEndpoints(t, h, 3)
		h.Docker(t, "network", "disconnect", "other", "one")
		h.Docker(t, "network", "rm", "other")
	}

	// Both at the same time.
	stream := pingFast(t, h, before[0], before[1])
	h.KillDocker(t)
	p.Kill()
	p.Restart(t)
	h.StartDocker(t)
	awaitEndpoints(t, h, 2)
	stream.stop(t, "Docker and plugin killed")
	h.Docker(t, "rm", "-f", "one", "two")
	awaitNoEndpoints(t, h)
}

// pingFast starts pings from one endpoint to another, a hundred a second.
func pingFast(t *testing.T, h *lab.Host, from, to api.Endpoint) pings {
	t.Helper()
	return startPings(t, h, "0.01", [2]api.Endpoint{from, to})
}

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
	h, p := startHost(t, "midcall")
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
	lab.Eventually(t, 4*time.Minute, "the state as before the calls", func() error {
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

// records returns the keys of all records in the plugin's state, in order. It stops the plugin and starts it again.
func records(t *testing.T, h *lab.Host, p *lab.Plugin) []string {
	t.Helper()
	p.Stop(t)
	defer p.Restart(t)
	keys, err := recordsIn(stateFiles(t, h))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// recordsNow is like records for a plugin that keeps running. It reads copies of the files and can fail if the plugin
// has written to them at the same time.
func recordsNow(t *testing.T, h *lab.Host) ([]string, error) {
	t.Helper()
	dir := t.TempDir()
	var copies []string
	for _, path := range stateFiles(t, h) {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		copied := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(copied, b, 0o600); err != nil {
			return nil, err
		}
		copies = append(copies, copied)
	}
	return recordsIn(copies)
}

// stateFiles returns the paths, on this machine, of the plugin's state: the file of endpoints, which a reboot
// deletes, and the other one, which it does not.
func stateFiles(t *testing.T, h *lab.Host) []string {
	t.Helper()
	endpoints, err := filepath.Glob(h.Path("/run/weave/endpoints-*.db"))
	if err != nil || len(endpoints) != 1 {
		t.Fatalf("files of endpoints %v (%v), want one", endpoints, err)
	}
	return append(endpoints, h.Path(statePath))
}

const statePath = "/var/lib/weave/weave.db"

func recordsIn(paths []string) (keys []string, err error) {
	for _, path := range paths {
		s, err := store.OpenBolt(path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = s.Close() }() // it was only read
		all, err := s.List(context.Background(), "")
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if strings.HasPrefix(r.Key, "address/") && !bytes.Contains(r.Value, []byte(`"held":`)) {
				continue // a released address, which is recorded so that it is given out again only after all others
			}
			keys = append(keys, r.Key)
		}
	}
	return keys, nil
}
