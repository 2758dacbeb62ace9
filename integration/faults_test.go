// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
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

// TestConnectionsAndDescriptors: somebody holds all connections to weave's API that he gets, and weave has few
// descriptors: Docker's calls succeed, and the API answers when the connections have gone.
func TestConnectionsAndDescriptors(t *testing.T) {
	h, p := startHost(t, "connections")
	few := unix.Rlimit{Cur: 128, Max: 128}
	if err := unix.Prlimit(p.PID, unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	var held []net.Conn
	for range 300 {
		conn, err := net.Dial("unix", h.Path(lab.APISocket))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	for i := range 3 {
		name := fmt.Sprintf("net%d", i)
		weaveNetwork(t, h, name, "--ipam-driver", "weave")
		h.Run(t, "--network", name, "--name", "container-"+name)
	}
	for _, conn := range held {
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	awaitEndpoints(t, h, 3)
}

// TestSocketsThatSomebodyRemoves are made again.
func TestSocketsThatSomebodyRemoves(t *testing.T) {
	h, _ := startHost(t, "sockets")
	h.Exec(t, "rm", lab.APISocket, lab.PluginSocket)
	lab.Eventually(t, 30*time.Second, "weave answers at both sockets", func() error {
		if _, err := h.WeaveErr("status"); err != nil {
			return err
		}
		_, err := h.ExecErr("test", "-S", lab.PluginSocket)
		return err
	})
	weaveNetwork(t, h, "app")
	h.Run(t, "--network", "app")
	awaitEndpoints(t, h, 1)
}
