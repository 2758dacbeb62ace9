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
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/store"
)

// engineEnds are the ways in which an engine ends.
var engineEnds = []struct {
	name string
	end  func(*lab.Host, testing.TB)
}{
	{"stopped", (*lab.Host).StopEngine},
	{"killed", (*lab.Host).KillEngine},
}

// Containers that the engine starts again have the addresses and MACs that their user chose, and are as weave lists
// them, whoever gives the addresses.
func TestContainersComeBackWithTheEngine(t *testing.T) {
	const each = 10 // containers on each of two networks
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
		args := []string{"run", "-d", "--restart", "always", "--name", name, "--network", strings.TrimRight(name, "0123456789")}
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

	for _, engine := range engineEnds {
		engine.end(h, t)
		h.StartEngine(t)
		for name, a := range awaitAgreement(t, h, names) {
			wanted := chosen[name]
			if wanted.IPAddress != "" && a.IPAddress != wanted.IPAddress || wanted.MacAddress != "" && a.MacAddress != wanted.MacAddress {
				t.Errorf("after the engine was %s, %s has %+v, want %+v", engine.name, name, a, wanted)
			}
		}
		awaitRunning(t, h, "ours0", "ours1")
		awaitRunning(t, h, "dockers0", "dockers1")
	}
	h.Docker(t, append([]string{"rm", "-f"}, names...)...)
}

// awaitAgreement waits until the containers run, each one on one network, and weave has the endpoint of each as Docker
// tells it, up and without drift. It returns what Docker says.
func awaitAgreement(t *testing.T, h *lab.Host, names []string) map[string]attachment {
	t.Helper()
	var found map[string]attachment
	lab.Eventually(t, time.Minute, fmt.Sprintf("%d containers that run, with endpoints as Docker has them", len(names)), func() error {
		listed := map[string]api.Endpoint{}
		for _, e := range endpoints(t, h, api.Query{Live: driver.Kernel}) {
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
			if c.State.Status != "running" || len(attached) != 1 || e.State != driver.Up || len(e.Drift) > 0 ||
				e.MAC != a.MacAddress || e.Addresses[0].Addr().String() != a.IPAddress {
				return fmt.Errorf("%s: Docker: %+v; weave: %+v", names[i], c, e)
			}
		}
		return nil
	})
	return found
}

// With live-restore the containers outlast their engine, and not one packet notices.
func TestLiveRestore(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "live", Engine: []string{"--live-restore"}})
	p := h.StartPlugin(t)
	// Not --internal: of a container without a gateway the engine forgets the links (libnetwork's restoreOslSandbox), and
	// it then can't be connected to another network.
	ipamNetwork(t, h, "app")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	before := tracked(t, h)
	for _, engine := range engineEnds {
		stream := pingFast(t, h, before[0], before[1])
		engine.end(h, t)
		h.StartEngine(t)
		after := tracked(t, h)
		stream.stop(t, "engine "+engine.name)
		if diff := cmp.Diff(before, after, cmpAddresses); diff != "" {
			t.Errorf("after the engine was %s (-before +after):\n%s", engine.name, diff)
		}
		// The engine has taken over its containers and their endpoints.
		weaveNetwork(t, h, "other", "--internal")
		h.Docker(t, "network", "connect", "other", "one")
		awaitEndpoints(t, h, 3)
		h.Docker(t, "network", "disconnect", "other", "one")
		h.Docker(t, "network", "rm", "other")
	}

	// Both at once: what is running needs neither.
	stream := pingFast(t, h, before[0], before[1])
	h.KillEngine(t)
	p.Kill()
	p.Restart(t)
	h.StartEngine(t)
	awaitEndpoints(t, h, 2)
	stream.stop(t, "engine and plugin killed")
	h.Docker(t, "rm", "-f", "one", "two")
	awaitNothingLeft(t, h)
}

// pingFast pings from one endpoint to another a hundred times a second.
func pingFast(t *testing.T, h *lab.Host, from, to api.Endpoint) pings {
	t.Helper()
	return startPings(t, h, "0.01", [2]api.Endpoint{from, to})
}

// A plugin that is started when Docker already waits for it is still in time.
func TestPluginStartsWhileDockerWaits(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "late"})
	created := inBackground(h, "network", "create", "-d", "weave", "--ipam-driver", "weave", "--internal", "app")
	lab.Eventually(t, 10*time.Second, "Docker waits for the plugin", func() error {
		if !strings.Contains(h.EngineLogged(t), "retrying in") {
			return errors.New("the engine's log doesn't say so")
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

// inBackground runs a docker command, and sends its error when it has ended; within a minute it is made to.
func inBackground(h *lab.Host, args ...string) <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := h.DockerErr(args...)
		ended <- err
	}()
	return ended
}

// A plugin that dies while Docker waits for its answer, and is there again at once: Docker asks once more, with the
// request or with an empty one, which is refused. Either way Docker gets an answer, and nothing is left of the call.
func TestPluginIsKilledWhileDockerWaits(t *testing.T) {
	h, p := startHost(t, "midcall")
	ipamNetwork(t, h, "ours", "--internal")
	weaveNetwork(t, h, "dockers", "--internal")
	h.Run(t, "--network", "ours", "--name", "dockers-guest") // the network that it is connected to below
	h.Run(t, "--network", "dockers", "--name", "ours-guest")
	t.Cleanup(func() { p.Restart(t) }) // a plugin that is suspended still would hold up what is removed below
	interrupt := func(args ...string) error {
		t.Helper()
		p.Suspend(t)
		ended := inBackground(h, args...)
		awaitCall(t, h)
		p.Restart(t)
		err := <-ended
		if err != nil && strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Fatalf("docker %s: no answer within a minute", strings.Join(args, " "))
		}
		return err
	}
	before := records(t, h, p)

	for _, network := range []string{"ours", "dockers"} {
		guest := network + "-guest"
		for _, c := range []struct{ command, undo []string }{
			{[]string{"network", "create", "-d", "weave", "--ipam-driver", "weave", "new"}, []string{"network", "rm", "new"}},
			{[]string{"run", "-d", "--name", "new", "--network", network, lab.Image}, []string{"rm", "-f", "new"}},
			{[]string{"network", "connect", network, guest}, []string{"network", "disconnect", network, guest}},
		} {
			err := interrupt(c.command...)
			if _, undone := h.DockerErr(c.undo...); err == nil && undone != nil {
				t.Errorf("docker %s: done, and can't be undone: %v", strings.Join(c.command, " "), undone)
			}
			t.Logf("docker %s: %v", strings.Join(c.command, " "), err)
		}
		h.Docker(t, "network", "connect", network, guest)
		ping(t, h, "dockers-guest", "ours-guest")

		// Docker removes its own part, come what may.
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
	// Docker 28 does not care whether the release of a pool was heard. What it forgot so is found when weave compares.
	lab.Eventually(t, 4*time.Minute, "the state as before the calls", func() error {
		now, err := recordsNow(t, h)
		if diff := cmp.Diff(before, now); err == nil && diff != "" {
			err = fmt.Errorf("(-before +after):\n%s", diff)
		}
		return err
	})
	h.Docker(t, "rm", "-f", "ours-guest", "dockers-guest")
	awaitNothingLeft(t, h)
}

// A plugin that dies while Docker waits for its answer, and stays away: Docker gives up.
func TestPluginDiesWhileDockerWaits(t *testing.T) {
	h, p := startHost(t, "dies")
	ipamNetwork(t, h, "app", "--internal")
	weaveNetwork(t, h, "other", "--internal")
	h.Run(t, "--network", "app", "--name", "one")
	before := records(t, h, p)

	t.Cleanup(func() { p.Restart(t) }) // for what is removed below
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
			t.Errorf("docker %s: no error, though the plugin is gone", strings.Join(command, " "))
		} else if strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("docker %s: no answer within a minute", strings.Join(command, " "))
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

// awaitCall waits until a call of Docker's lies unread before a plugin that is suspended.
func awaitCall(t *testing.T, h *lab.Host) {
	t.Helper()
	lab.Eventually(t, 30*time.Second, "a call of Docker's", func() error {
		sockets := h.Exec(t, "ss", "-Hxan")
		for line := range strings.Lines(sockets) {
			fields := strings.Fields(line) // u_str STATE RECV-Q SEND-Q ADDRESS ...; the name under which it was bound
			if len(fields) > 4 && strings.HasPrefix(fields[4], filepath.Dir(lab.PluginSocket)) && fields[2] != "0" {
				return nil
			}
		}
		return errors.New(sockets)
	})
}

// records are the keys of what the plugin's state holds, in order; the plugin is stopped and started for that.
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

// recordsNow are the same of a plugin that goes on. An error may mean no more than that it wrote meanwhile.
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

// stateFiles are the paths of the plugin's state: of what outlives a reboot, and of endpoints.
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
		s, err := store.OpenBolt(context.Background(), path)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		all, err := s.List(context.Background(), "")
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if strings.HasPrefix(r.Key, "address/") && !bytes.Contains(r.Value, []byte(`"held":`)) {
				continue // was freed: kept to be given out again only after the others
			}
			keys = append(keys, r.Key)
		}
	}
	return keys, nil
}
