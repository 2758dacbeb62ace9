// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

var cmpAddresses = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

// awaitRunning waits until the containers run and can ping each other by name.
func awaitRunning(t *testing.T, h *lab.Host, names ...string) {
	t.Helper()
	for _, from := range names {
		for _, to := range names {
			lab.Eventually(t, 30*time.Second, from+" pings "+to, func() error { return pingErr(h, from, to) })
		}
	}
}

// tracked waits for two endpoints and returns of them what stays the same when the plugin is restarted.
func tracked(t *testing.T, h *lab.Host) []api.Endpoint {
	t.Helper()
	found := awaitEndpoints(t, h, 2)
	return stripped(found)
}

func TestPluginIsKilledBesideRunningContainers(t *testing.T) {
	h, p := startHost(t, "kill")
	weaveNetwork(t, h, "app", "--ipam-driver", "weave")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	awaitRunning(t, h, "one", "two")
	before := tracked(t, h)

	p.Kill()
	ping(t, h, "one", "two") // traffic does not need the plugin
	p.Restart(t)
	if diff := cmp.Diff(before, tracked(t, h), cmpAddresses); diff != "" {
		t.Errorf("endpoints (-before +after the restart):\n%s", diff)
	}
	ping(t, h, "one", "two")
	h.Run(t, "--network", "app", "--name", "three")
	ping(t, h, "three", "one")
	weaveNetwork(t, h, "new")
	h.Docker(t, "rm", "-f", "one", "two", "three")
	awaitNoEndpoints(t, h)
}

func TestPluginIsStopped(t *testing.T) {
	h, p := startHost(t, "stop")
	weaveNetwork(t, h, "app")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	before := tracked(t, h)
	p.Stop(t)
	for _, socket := range []string{lab.PluginSocket, lab.APISocket} {
		if _, err := os.Lstat(h.Path(socket)); !os.IsNotExist(err) {
			t.Errorf("%s after a clean stop: %v", socket, err)
		}
	}
	ping(t, h, "one", "two")
	p.Restart(t)
	if diff := cmp.Diff(before, tracked(t, h), cmpAddresses); diff != "" {
		t.Errorf("endpoints (-before +after the restart):\n%s", diff)
	}
}

// A plugin that starts makes the bridges that are missing, also those of running containers.
func TestPluginRepairsAtItsStart(t *testing.T) {
	h, p := startHost(t, "repair")
	weaveNetwork(t, h, "app", "--internal")
	weaveNetwork(t, h, "unused", "--internal")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	bridge := awaitEndpoints(t, h, 2)[0].Bridge
	bridges := linksOf(t, h, "wv-")
	p.Kill()
	for _, b := range bridges {
		h.Exec(t, "ip", "link", "del", b)
	}
	if err := pingErr(h, "one", "two"); err == nil {
		t.Fatal("the containers reach each other without their bridge")
	}
	p.Restart(t)
	lab.Eventually(t, 10*time.Second, "bridges", func() error {
		if got := linksOf(t, h, "wv-"); !sameSet(got, bridges) {
			return fmt.Errorf("bridges %v, want %v (of the containers: %s)", got, bridges, bridge)
		}
		return nil
	})
	ping(t, h, "one", "two")
	awaitEndpoints(t, h, 2)
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// After a crash Docker forgets its endpoints without a call to a plugin on a legacy socket. A new endpoint with the
// same address and MAC replaces the old one in weave.
func TestEndpointsThatDockerForgotAreReplaced(t *testing.T) {
	h, _ := startHost(t, "replace")
	weaveNetwork(t, h, "app", "--subnet", "10.57.0.0/24")
	h.Run(t, "--network", "app", "--name", "one", "--ip", "10.57.0.50", "--mac-address", "02:42:00:00:57:50")
	h.Run(t, "--network", "app", "--name", "back", "--ip", "10.57.0.51", "--restart", "always")
	awaitEndpoints(t, h, 2)

	h.KillDocker(t)
	h.StartDocker(t)
	h.Docker(t, "start", "one")
	awaitRunning(t, h, "one", "back")
	awaitEndpoints(t, h, 2)
	lab.Eventually(t, 10*time.Second, "no links of replaced endpoints", func() error {
		if links := linksOf(t, h, "wve-", "wvc-"); len(links) != 2 {
			return fmt.Errorf("links %v, want 2", links)
		}
		return nil
	})
}

func TestDockerIsStoppedAndStarted(t *testing.T) {
	h, _ := startHost(t, "clean")
	weaveNetwork(t, h, "app", "--ipam-driver", "weave")
	h.Run(t, "--network", "app", "--name", "one", "--restart", "always")
	h.Run(t, "--network", "app", "--name", "two", "--restart", "always")
	awaitRunning(t, h, "one", "two")
	h.StopDocker(t)
	awaitNoEndpoints(t, h)
	h.StartDocker(t)
	awaitRunning(t, h, "one", "two")
	awaitEndpoints(t, h, 2)
}

func TestReboot(t *testing.T) {
	for _, c := range []struct {
		name  string
		start func(t *testing.T, h *lab.Host, p *lab.Plugin)
	}{
		{"plugin first", func(t *testing.T, h *lab.Host, p *lab.Plugin) {
			p.Restart(t)
			h.StartDocker(t)
		}},
		{"Docker first", func(t *testing.T, h *lab.Host, p *lab.Plugin) {
			h.LaunchDocker(t)
			// Docker waits some seconds for a plugin, and may answer on its API only then.
			p.Restart(t)
			h.AwaitDocker(t)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, p := startHost(t, "reboot")
			weaveNetwork(t, h, "app", "--ipam-driver", "weave")
			weaveNetwork(t, h, "fixed", "--subnet", "10.58.0.0/24")
			h.Run(t, "--network", "app", "--name", "one", "--restart", "always")
			h.Run(t, "--network", "app", "--name", "two", "--restart", "always")
			h.Run(t, "--network", "fixed", "--name", "chosen", "--ip", "10.58.0.50", "--restart", "always")
			h.Run(t, "--network", "fixed", "--name", "gone")
			awaitRunning(t, h, "one", "two")
			awaitEndpoints(t, h, 4)

			h.PowerOff(t)
			h.PowerOn(t)
			c.start(t, h, p)

			awaitRunning(t, h, "one", "two")
			awaitRunning(t, h, "chosen")
			if a := attachmentOf(t, h, "chosen", "fixed"); a.IPAddress != "10.58.0.50" {
				t.Errorf("after the reboot the chosen address is %s", a.IPAddress)
			}
			awaitEndpoints(t, h, 3)
			h.Docker(t, "start", "gone")
			ping(t, h, "gone", "chosen")
		})
	}
}

// The plugin starts on a host where Docker has never run, and works when Docker is started later.
func TestPluginStartsBeforeDocker(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "early", NoDocker: true})
	h.StartPlugin(t)
	if s := status(t, h); s.Docker.Reachable {
		t.Errorf("status without Docker: %+v", s.Docker)
	}
	h.StartDocker(t)
	h.ImportImage(t)
	weaveNetwork(t, h, "app")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	awaitRunning(t, h, "one", "two")
	lab.Eventually(t, time.Minute, "names from Docker", func() error {
		if e := endpoints(t, h, api.Query{Containers: []string{"one"}}); len(e) != 1 {
			return fmt.Errorf("container one is not known by its name")
		}
		return nil
	})
}
