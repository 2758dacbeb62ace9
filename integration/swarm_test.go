// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// swarmNetwork is the network of the cluster that a swarm's services are on.
const swarmNetwork = "app"

// swarmImage is what its tasks run. It has to be in a registry: Swarm asks for it before it takes what a node has.
const swarmImage = registry + "/busybox:latest"

// startSwarm starts two nodes with the managed plugin, in one swarm and in one cluster. The oracle looks at them when t
// has removed what it has made.
func startSwarm(t *testing.T, settings ...string) *hosts {
	t.Helper()
	m := newManagedLab(t)
	m.builder.Docker(t, "tag", lab.Image, swarmImage)
	m.builder.Docker(t, "push", swarmImage)
	c := &hosts{etcd: m.underlay.StartEtcd(t), engines: swarmNetworks}
	settings = append(settings, "WEAVE_CLUSTER="+c.etcd.Address(), "WEAVE_CLUSTER_LEASE=3s")
	for i, address := range []string{"192.0.2.24", "192.0.2.25"} {
		h := m.host(t, fmt.Sprintf("node%d", i+1), address+"/24")
		install(t, h, managedName, settings...)
		c.all = append(c.all, h)
	}
	lab.JoinSwarm(t, c.all[0], c.all[1:]...)
	t.Cleanup(func() { c.check(t, "at the end") })
	return c
}

// swarmNetworks returns the networks of the managed plugin that a node has.
func swarmNetworks(h *lab.Host) ([]engineNetwork, error) { return networksOfDriver(h, managedName) }

// awaitTasks waits until so many tasks of a service run, of its last version, on each of the nodes by their names.
func awaitTasks(t *testing.T, manager *lab.Host, service string, want map[string]int) {
	t.Helper()
	lab.Eventually(t, 60*time.Second, fmt.Sprintf("tasks of %s: %v", service, want), func() error {
		out := manager.Docker(t, "service", "ps", "--format", "{{.Node}} {{.DesiredState}} {{.CurrentState}}", service)
		got := map[string]int{}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) > 2 && f[1] == "Running" && f[2] == "Running" {
				got[f[0]]++
			}
		}
		for node, n := range want {
			if got[node] != n {
				return fmt.Errorf("tasks:\n%s", out)
			}
		}
		const state = "{{with .UpdateStatus}}{{.State}}{{end}}"
		if strings.Contains(manager.Docker(t, "service", "inspect", "-f", state, service), "updating") {
			return fmt.Errorf("the update goes on")
		}
		return nil
	})
}

// request sends requests to a service by its name from the client on each node, at once, and fails t for each that has
// no answer. It begins when each has some: a task runs, and has its name, before it answers.
func request(t *testing.T, nodes []*lab.Host, service string, requests int) {
	t.Helper()
	const loop = `i=0; while [ $i -lt $1 ]; do i=$((i+1))
		printf 'GET / HTTP/1.0\r\n\r\n' | nc -w5 $0 80 | grep -q weave || echo request $i; done`
	ask := func(node, requests int) error {
		client := fmt.Sprintf("client%d", node)
		out, err := nodes[node].DockerErr("exec", client, "sh", "-c", loop, service, fmt.Sprint(requests))
		if err == nil && out != "" {
			err = fmt.Errorf("%s: without an answer of %s: %s", client, service, out)
		}
		return err
	}
	var group sync.WaitGroup
	for i := range nodes {
		lab.Eventually(t, 20*time.Second, service+" answers", func() error { return ask(i, 20) })
		group.Go(func() {
			if err := ask(i, requests); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// startService starts a service with two tasks on each node, on swarmNetwork, and a client beside them, on each node,
// that finds all tasks by the service's name.
func startService(t *testing.T, nodes []*lab.Host, options ...string) {
	t.Helper()
	manager := nodes[0]
	command := append([]string{"service", "create", "--detach", "--name", "web", "--replicas", "4", "--network",
		swarmNetwork, "--stop-grace-period", "1s"}, options...)
	manager.Docker(t, append(command, swarmImage, "httpd", "-f", "-h", "/www")...)
	t.Cleanup(func() { _, _ = manager.DockerErr("service", "rm", "web") })
	awaitTasks(t, manager, "web", tasksPerNode(t, nodes, 2))
	for i, h := range nodes {
		h.Run(t, "--network", swarmNetwork, "--name", fmt.Sprintf("client%d", i))
		awaitAnswers(t, h, i, func(n int) bool { return n >= 4 })
	}
}

// tasksPerNode is what awaitTasks takes for so many tasks on each node.
func tasksPerNode(t *testing.T, nodes []*lab.Host, tasks int) map[string]int {
	t.Helper()
	want := map[string]int{}
	for _, h := range nodes {
		want[strings.TrimSpace(h.Docker(t, "info", "-f", "{{.Name}}"))] = tasks
	}
	return want
}

// awaitAnswers waits until a client finds a right number of addresses by the service's name.
func awaitAnswers(t *testing.T, h *lab.Host, client int, right func(addresses int) bool) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, "the service's tasks are found by its name", func() error {
		out, err := h.DockerErr("exec", fmt.Sprintf("client%d", client), "nslookup", "web.")
		if n := strings.Count(out, "10.93.0."); err == nil && !right(n) {
			err = fmt.Errorf("%d addresses: %s", n, out)
		}
		return err
	})
}

// TestSwarm: a service's tasks on all nodes are on one network, are found by its name from everywhere, and may be
// replaced and moved.
func TestSwarm(t *testing.T) {
	t.Parallel()
	skipWithoutSwarm(t)
	c := startSwarm(t)
	nodes, manager := c.all, c.all[0]
	for _, h := range nodes {
		h.Docker(t, "network", "create", "--config-only", "--ipam-driver", managedName,
			"--ipam-opt", "works.weave.network="+swarmNetwork, "--subnet", "10.93.0.0/24", "app-config")
	}
	manager.Docker(t, "network", "create", "-d", managedName, "--scope", "swarm", "--config-from", "app-config",
		"--attachable", swarmNetwork)
	startService(t, nodes)
	request(t, nodes, "web", 1000)
	for _, h := range nodes {
		lab.Eventually(t, 30*time.Second, "the tunnel to the other node is found good", func() error {
			if out := h.Weave(t, "hosts", "--format", "{{.Tunnel}}"); !strings.Contains(out, "ok ") {
				return fmt.Errorf("%s and warnings %q", out, status(t, h).Warnings)
			}
			return nil
		})
	}
	manager.Docker(t, "service", "update", "--detach", "--force", "--update-delay", "0s", "web")
	awaitTasks(t, manager, "web", tasksPerNode(t, nodes, 2))
	worker := strings.TrimSpace(nodes[1].Docker(t, "info", "-f", "{{.Name}}"))
	manager.Docker(t, "node", "update", "--availability", "drain", worker)
	awaitTasks(t, manager, "web", tasksPerNode(t, nodes[:1], 4))
	for i, h := range nodes {
		awaitAnswers(t, h, i, func(n int) bool { return n == 4 }) // only tasks that run
	}
	request(t, nodes, "web", 100)
	c.check(t, "with all tasks on one node")
	manager.Docker(t, "service", "rm", "web")
	for i, h := range nodes {
		h.Docker(t, "rm", "-f", fmt.Sprintf("client%d", i))
	}
}

// TestSwarmsOwnNetworks: with scope global a network is the swarm's, and spans its nodes without being told how. Its
// services need dnsrr; those that have a virtual address are told.
func TestSwarmsOwnNetworks(t *testing.T) {
	t.Parallel()
	skipWithoutSwarm(t)
	c := startSwarm(t, "WEAVE_SCOPE=global", "WEAVE_DOCKER_INTERVAL=6s")
	nodes, manager := c.all, c.all[0]
	manager.Docker(t, "network", "create", "-d", managedName, "--ipam-driver", managedName, "--subnet", "10.93.0.0/24",
		"--attachable", swarmNetwork)
	startService(t, nodes, "--endpoint-mode", "dnsrr")
	request(t, nodes, "web", 1000)
	manager.Docker(t, "service", "update", "--detach", "--force", "--update-delay", "0s", "web")
	awaitTasks(t, manager, "web", tasksPerNode(t, nodes, 2))
	request(t, nodes, "web", 100)
	c.check(t, "with tasks on all nodes")

	manager.Docker(t, "service", "create", "--detach", "--name", "dead", "--network", swarmNetwork, swarmImage, "top")
	lab.Eventually(t, 30*time.Second, "the service with a virtual address is told", func() error {
		const want = "service dead: its virtual address on network app"
		if out := manager.Weave(t, "status"); !strings.Contains(out, want) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	manager.Docker(t, "service", "rm", "web", "dead")
	for i, h := range nodes {
		h.Docker(t, "rm", "-f", fmt.Sprintf("client%d", i))
	}
}

// TestBesideSwarmsOverlay: a network of the cluster and one of Docker's overlay driver work beside each other, in the
// same containers.
func TestBesideSwarmsOverlay(t *testing.T) {
	t.Parallel()
	skipWithoutSwarm(t)
	c := startHosts(t, 2)
	lab.JoinSwarm(t, c.all[0], c.all[1:]...)
	c.network(t, "app", "--subnet", "10.75.0.0/24")
	c.all[0].Docker(t, "network", "create", "-d", "overlay", "--attachable", "--subnet", "10.74.0.0/24", "swarms")
	for i, h := range c.all {
		name := fmt.Sprintf("c%d", i)
		h.Run(t, "--network", "swarms", "--name", name)
		h.Docker(t, "network", "connect", "app", name)
	}
	for _, network := range []string{"app", "swarms", "app"} {
		for i, h := range c.all {
			other := 1 - i
			to := address(t, c.all[other], fmt.Sprintf("c%d", other), network)
			lab.Eventually(t, 20*time.Second, fmt.Sprintf("c%d pings %s on %s", i, to, network), func() error {
				_, err := h.DockerErr("exec", fmt.Sprintf("c%d", i), "ping", "-c1", "-W1", to)
				return err
			})
		}
	}
	for i, h := range c.all {
		h.Docker(t, "rm", "-f", fmt.Sprintf("c%d", i))
	}
	lab.Eventually(t, 20*time.Second, "the overlay network is removed", func() error {
		_, err := c.all[0].DockerErr("network", "rm", "swarms")
		return err
	})
	for _, h := range c.all {
		h.Docker(t, "network", "rm", "app")
	}
}

// skipWithoutSwarm skips a test where Docker has no swarm mode: it refuses that while it writes its rules with
// nftables.
func skipWithoutSwarm(t *testing.T) {
	t.Helper()
	if usesNftables() {
		t.Skip("Docker's swarm mode does not work with its firewall back end nftables")
	}
}
