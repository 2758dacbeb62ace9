// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/integration/lab"
)

const (
	defaultCycles = 100 // without $WEAVE_CYCLES
	pluginFault   = 10  // the plugin is killed in about one of so many cycles
	dockerFault   = 50  // Docker is killed in one of so many cycles
)

// Containers are connected and disconnected many times, while the plugin and Docker are killed at random moments.
// Afterwards the host's links and rules, weave's state and the plugin's file descriptors are as they were before.
func TestCycles(t *testing.T) {
	n := number(t, "WEAVE_CYCLES", defaultCycles)
	h, p := startHost(t, "cycles", compareOften)
	c := &cycler{t: t, host: h, plugin: p,
		containers: []string{"c0", "c1", "c2"}, networks: []string{"ours", "dockers"}}
	ipamNetwork(t, h, "home", "--subnet", "10.74.0.0/24")
	ipamNetwork(t, h, "ours")
	weaveNetwork(t, h, "dockers")
	for i, name := range c.containers {
		h.Run(t, "--init", "--restart", "always", "--name", name,
			"--network", "home", "--ip", fmt.Sprintf("10.74.0.1%d", i))
	}
	awaitEndpoints(t, h, len(c.containers))
	held := kinds(records(t, h, p))
	c.cycle(noFault)
	lab.Eventually(t, time.Minute, "no link of an endpoint that is gone", func() error { // removed after the answer
		if waiting := linksOf(t, h, "wvc-"); len(waiting) > 0 {
			return fmt.Errorf("%v", waiting)
		}
		return nil
	})
	before := c.footprint()

	started := time.Now()
	quiet := max(10, n/10) // cycles at the end without a fault, so that a leak of the running plugin is seen
	for i := range n {
		switch {
		case i < n-quiet && i%dockerFault == dockerFault/2:
			c.cycle(dockerKilled)
		case i < n-quiet && rand.N(pluginFault) == 0:
			c.cycle(pluginKilled)
		default:
			c.cycle(noFault)
		}
	}
	t.Logf("%d cycles in %v; the plugin was killed %d times, Docker %d times; Docker refused %d calls",
		n, time.Since(started).Round(time.Second), c.faults[pluginKilled], c.faults[dockerKilled], c.refused)

	// weave finds what Docker has lost, endpoints and addresses, in a comparison that it makes now and then.
	started = time.Now()
	var diff string
	err := lab.Poll(2*time.Minute, func() error {
		now := c.footprint()
		// Docker and weave keep some connections for a while, so there may be fewer than before.
		const sockets = "descriptor socket:"
		now[sockets] = max(now[sockets], before[sockets])
		if diff = cmp.Diff(before, now); diff != "" {
			return errors.New("not as it was")
		}
		return nil
	})
	if err != nil {
		t.Errorf("after %d cycles (-before +after):\n%s", n, diff)
	}
	t.Logf("all was as before %v later", time.Since(started).Round(time.Second))

	lab.Eventually(t, 2*time.Minute, "the state as before", func() error {
		keys, err := recordsNow(t, h)
		if diff := cmp.Diff(held, kinds(keys)); err == nil && diff != "" {
			err = fmt.Errorf("(-before +after):\n%s", diff)
		}
		return err
	})
	awaitRunning(t, h, c.containers...)
	h.Docker(t, append([]string{"rm", "-f"}, c.containers...)...)
	awaitNoEndpoints(t, h)
}

// fault is what is killed during a cycle.
type fault int

const (
	noFault fault = iota
	pluginKilled
	dockerKilled
)

// cycler connects containers to networks and disconnects them.
type cycler struct {
	t          *testing.T
	host       *lab.Host
	plugin     *lab.Plugin
	containers []string
	networks   []string
	faults     [dockerKilled + 1]int // how many there were, by kind
	refused    int                   // calls that Docker refused; allowed only in a cycle with a fault
}

// cycle connects a container to a network and disconnects it, with a fault at a random moment.
func (c *cycler) cycle(f fault) {
	c.t.Helper()
	network, container := c.networks[rand.N(len(c.networks))], c.containers[rand.N(len(c.containers))]
	c.faults[f]++
	done := make(chan []error, 1)
	go func() {
		var refused []error
		for _, verb := range []string{"connect", "disconnect"} {
			if _, err := c.host.DockerErr("network", verb, network, container); err != nil {
				refused = append(refused, err)
			}
		}
		done <- refused
	}()
	if f != noFault {
		time.Sleep(rand.N(150 * time.Millisecond)) // the two calls take about as long
	}
	switch f {
	case pluginKilled:
		c.plugin.Kill()
		c.plugin.Restart(c.t)
	case dockerKilled:
		c.host.KillDocker(c.t)
		c.host.StartDocker(c.t)
	}
	refused := <-done
	c.refused += len(refused)
	if f == noFault && len(refused) > 0 {
		c.t.Fatal(errors.Join(refused...))
	}
	if f != noFault {
		c.recover(network, container)
	}
}

// recover does what a user does after a fault: it waits for the containers and disconnects those that are still
// connected.
func (c *cycler) recover(network, container string) {
	c.t.Helper()
	lab.Eventually(c.t, time.Minute, "containers that run, each only on its own network", func() error {
		// Docker may have an endpoint of a container that it does not list as connected; this removes it. After a
		// crash it may also list a container as connected without an endpoint; the connect below repairs that.
		_, refused := c.host.DockerErr("network", "disconnect", "-f", network, container)
		const format = "{{.State.Running}}{{range $n, $_ := .NetworkSettings.Networks}} {{$n}}{{end}}"
		out, err := c.host.DockerErr(append([]string{"inspect", "-f", format}, c.containers...)...)
		if err == nil && strings.Count(out, "true home") != len(c.containers) {
			_, connected := c.host.DockerErr("network", "connect", network, container)
			err = fmt.Errorf("%s (%w)", strings.ReplaceAll(out, "\n", ", "), errors.Join(refused, connected))
		}
		return err
	})
	lab.Eventually(c.t, time.Minute, "own network of "+container, func() error {
		return pingErr(c.host, container, "10.74.0.10")
	})
	// If Docker was killed between two calls it may assign an address again that weave still holds, for ten seconds,
	// for an endpoint that Docker did not finish.
	lab.Eventually(c.t, 30*time.Second, container+" on "+network+" again", func() error {
		_, err := c.host.DockerErr("network", "connect", network, container)
		return err
	})
	c.host.Docker(c.t, "network", "disconnect", network, container)
}

// Parts of names and rules that differ each time.
var (
	randomLink = regexp.MustCompile(`^(veth|wve-|wvc-)[0-9a-f]+`)
	counters   = regexp.MustCompile(`\[[0-9]+:[0-9]+\]`)
	inode      = regexp.MustCompile(`\[[0-9a-z]+\]`)
)

// footprint counts what weave and Docker have on the host, by kind: links, firewall rules, endpoints, and the
// plugin's file descriptors.
func (c *cycler) footprint() map[string]int {
	c.t.Helper()
	found := map[string]int{}
	for _, link := range linksOf(c.t, c.host, "") {
		found["link "+randomLink.ReplaceAllString(link, "$1")]++
	}
	for _, table := range []string{"iptables-save", "ip6tables-save"} {
		for line := range strings.Lines(c.host.Exec(c.t, table)) {
			if !strings.HasPrefix(line, "#") {
				found[table+" "+counters.ReplaceAllString(strings.TrimSpace(line), "")]++
			}
		}
	}
	counts := status(c.t, c.host).Endpoints
	found["endpoints"] = counts.Created + counts.Joined + counts.Up
	maps.Copy(found, c.descriptors())
	return found
}

// kinds counts records of the state by their kind, the first part of the key.
func kinds(keys []string) map[string]int {
	found := map[string]int{}
	for _, key := range keys {
		kind, _, _ := strings.Cut(key, "/")
		found[kind]++
	}
	return found
}

// descriptors counts the plugin's file descriptors by what they refer to. Connections are counted in hundreds, because
// Docker keeps some open for its next calls.
func (c *cycler) descriptors() map[string]int {
	c.t.Helper()
	connected, err := connectedSockets(c.plugin.PID)
	if err != nil {
		c.t.Fatal(err)
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.plugin.PID))
	if err != nil || len(links) == 0 {
		c.t.Fatalf("descriptors of the plugin: %v, %v", links, err)
	}
	found := map[string]int{}
	connections := 0
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue // it has been closed since
		}
		if connected[target] {
			connections++
			continue
		}
		found["descriptor "+inode.ReplaceAllString(target, "")]++
	}
	found["connections, in hundreds"] = connections / 100
	return found
}

// connectedSockets returns the connected Unix sockets in the network namespace of process pid, in the form of the
// links in /proc/PID/fd.
func connectedSockets(pid int) (map[string]bool, error) {
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", pid))
	if err != nil {
		return nil, err
	}
	const connected = "03" // SS_CONNECTED
	found := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		if fields := strings.Fields(line); len(fields) >= 7 && fields[5] == connected {
			found["socket:["+fields[6]+"]"] = true
		}
	}
	return found, nil
}
