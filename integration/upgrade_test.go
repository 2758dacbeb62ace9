// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// How much runs during the upgrade of the managed plugin: each container is on each network.
const (
	upgradeContainers = 10
	upgradeNetworks   = 5
)

// testUpgrade takes an installation of the previous version through its life, with containers running: upgrade to the
// tree's version, removal and new installation, restart of Docker, reboot.
func testUpgrade(t *testing.T, m managedLab) {
	var pluginID string
	t.Cleanup(func() { // after the host's end, since it comes before the host's start
		if left, _ := filepath.Glob("/sys/fs/cgroup/*/" + pluginID); len(left) > 0 {
			t.Errorf("cgroups of the plugin that are left: %v", left)
		}
	})
	previous := copyPrevious(t)
	removeSetting(t, previous, "WEAVE_MTU") // so that there is a setting which only the new version has
	m.push(t, managedPrevious, previous)
	h := m.host(t, "upgrade", "192.0.2.23/24")
	install(t, h, managedPrevious, "--alias="+managedName)
	h.Docker(t, "plugin", "disable", managedName)
	h.Docker(t, "plugin", "set", managedName, "WEAVE_RANGE=10.99.0.0/16")
	h.Docker(t, "plugin", "enable", managedName)
	for n := range upgradeNetworks {
		weaveNetwork(t, h, fmt.Sprintf("net%d", n), "--internal", "--ipam-driver", "weave")
	}
	for c := range upgradeContainers {
		name := fmt.Sprintf("c%d", c)
		h.Run(t, "--network", "net0", "--name", name, "--restart", "always")
		for n := 1; n < upgradeNetworks; n++ {
			h.Docker(t, "network", "connect", fmt.Sprintf("net%d", n), name)
		}
	}
	before := awaitEndpoints(t, h, upgradeContainers*upgradeNetworks)
	id, networks := status(t, h).StateID, networksOf(t, h)
	if s := status(t, h); s.Version != previousVersion {
		t.Fatalf("version %s, want %s", s.Version, previousVersion)
	}
	var listing string
	lab.Eventually(t, 30*time.Second, "every container is known by its id", func() error {
		if listing = h.Weave(t, "ps", "--format", "weave"); strings.Contains(listing, "weave:") {
			return errors.New(listing)
		}
		return nil
	})

	// No packet is lost while no plugin runs, nor when the new one starts.
	streams := pingAll(t, h, before)
	h.Docker(t, "plugin", "disable", managedName)
	h.Docker(t, "plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", managedName, managedName)
	h.Docker(t, "plugin", "enable", managedName)
	awaitEndpoints(t, h, len(before))
	streams.stop(t, "upgrade")
	if diff := cmp.Diff(stripped(before), stripped(awaitEndpoints(t, h, len(before))), cmpAddresses); diff != "" {
		t.Errorf("endpoints (-before +after the upgrade):\n%s", diff)
	}
	if diff := cmp.Diff(networks, networksOf(t, h), cmpAddresses); diff != "" {
		t.Errorf("networks (-before +after the upgrade):\n%s", diff)
	}
	if now := status(t, h).StateID; now != id {
		t.Errorf("after the upgrade the state is %s, want %s as before", now, id)
	}
	lab.Eventually(t, 30*time.Second, "the same listing", func() error {
		if after := h.Weave(t, "ps", "--format", "weave"); after != listing {
			return fmt.Errorf("before:\n%s\nafter:\n%s", listing, after)
		}
		return nil
	})
	testSettingsAfterUpgrade(t, h)

	streams = pingAll(t, h, before)
	h.Docker(t, "plugin", "disable", managedName)
	h.Docker(t, "plugin", "rm", managedName)
	install(t, h, managedName)
	after := awaitEndpoints(t, h, len(before))
	streams.stop(t, "rm and install")
	if got, want := places(after), places(before); !cmp.Equal(got, want) {
		t.Errorf("endpoints that the new installation found in Docker (-before +after):\n%s", cmp.Diff(want, got))
	}
	h.Run(t, "--network", "net0", "--name", "new")
	ping(t, h, "new", "c1")
	h.Docker(t, "rm", "-f", "new")

	awaitAllRunning := func() {
		t.Helper()
		awaitRunning(t, h, "c0", "c1", "c2")
		awaitEndpoints(t, h, len(before))
	}
	h.StopDocker(t)
	h.StartDocker(t)
	awaitAllRunning()
	id = status(t, h).StateID
	h.PowerOff(t)
	h.PowerOn(t)
	h.StartDocker(t)
	awaitAllRunning()
	pluginID = h.Docker(t, "plugin", "inspect", "-f", "{{.Id}}", managedName)
	if now := status(t, h).StateID; now != id {
		t.Errorf("the state is %s after a reboot, and was %s", now, id)
	}
}

// testSettingsAfterUpgrade checks that settings keep their values, and that a new setting has its default: Docker
// does not pass it to an upgraded plugin.
func testSettingsAfterUpgrade(t *testing.T, h *lab.Host) {
	t.Helper()
	settings := h.Docker(t, "plugin", "inspect", "-f", "{{.Settings.Env}}", managedName)
	if !strings.Contains(settings, "WEAVE_RANGE=10.99.0.0/16") || strings.Contains(settings, "WEAVE_MTU") {
		t.Errorf("settings after the upgrade: %s; want the range that was set, and not the new setting", settings)
	}
	version := run(t, filepath.Join(managedDir(t), "rootfs/weave"), "version")
	if s := status(t, h); !strings.HasPrefix(version, "weave "+s.Version+" ") {
		t.Errorf("after the upgrade weave %s runs, want %s", s.Version, version)
	}
	want(t, h.Weave(t, "status"), "10.99.0.0/16")
	weaveNetwork(t, h, "later", "--internal")
	want(t, h.Weave(t, "networks"), "1500")
	h.Docker(t, "network", "rm", "later")
}

// networksOf lists the networks by id, without their names, which weave learns from Docker, and their gateways.
func networksOf(t *testing.T, h *lab.Host) []api.Network {
	t.Helper()
	found, err := api.NewClient(h.Path(lab.APISocket)).Networks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range found {
		found[i].Name, found[i].Gateway = "", "" // the earlier version does not tell of gateways
	}
	slices.SortFunc(found, func(a, b api.Network) int { return strings.Compare(a.ID, b.ID) })
	return found
}

// stripped returns endpoints by id, without what weave learns from Docker or from the kernel.
func stripped(endpoints []api.Endpoint) []api.Endpoint {
	var out []api.Endpoint
	for _, e := range endpoints {
		e.Live, e.Drift, e.NetworkName, e.ContainerName, e.ContainerID = nil, nil, "", "", ""
		e.Gateway = "" // the earlier version does not tell of it
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b api.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// places maps the ids of endpoints to what does not depend on the state file: bridge, host end, MAC and addresses.
func places(endpoints []api.Endpoint) map[string]string {
	out := map[string]string{}
	for _, e := range endpoints {
		out[e.ID] = fmt.Sprint(e.NetworkID, e.HostEnd, e.Bridge, e.MAC, e.Addresses)
	}
	return out
}

// pingAll starts pings from each endpoint to the next one on its network, fifty a second.
func pingAll(t *testing.T, h *lab.Host, endpoints []api.Endpoint) pings {
	t.Helper()
	byNetwork := map[string][]api.Endpoint{}
	for _, e := range endpoints {
		byNetwork[e.NetworkID] = append(byNetwork[e.NetworkID], e)
	}
	var pairs [][2]api.Endpoint
	for _, peers := range byNetwork {
		for i, e := range peers {
			pairs = append(pairs, [2]api.Endpoint{e, peers[(i+1)%len(peers)]})
		}
	}
	return startPings(t, h, "0.02", pairs...)
}

// Beside containers of all kinds of networks, a weave that was installed on the host is stopped and the tree's
// version is started.
func TestUpgradeOfAnInstalledWeave(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "upgraded", Binaries: filepath.Join(previousPlugin(t), "rootfs")})
	p := h.StartPlugin(t)
	h.Exec(t, "ip", "link", "add", "mine", "type", "bridge")
	h.Exec(t, "ip", "link", "set", "mine", "up")
	for name, options := range map[string][]string{
		"plain": {"--ipam-driver", "weave"},
		"dual": {"--ipam-driver", "weave", "--ipv6", "--subnet", "10.65.0.0/24", "--subnet", "fd65::/64",
			"-o", "works.weave.mtu=1400"},
		"dockers": {"--subnet", "10.66.0.0/24", "--internal", "-o", "works.weave.multicast=true"},
		"foreign": {"--subnet", "10.67.0.0/24", "-o", "works.weave.bridge=mine"},
	} {
		weaveNetwork(t, h, name, options...)
		h.Run(t, "--network", name, "--name", name+"-a")
		h.Run(t, "--network", name, "--name", name+"-b")
	}
	before, networks, id := awaitEndpoints(t, h, 8), networksOf(t, h), status(t, h).StateID

	streams := pingAll(t, h, before)
	p.Stop(t)
	p.Weave = "/usr/local/bin/weave"
	for _, binary := range []string{"weave", "nsproc"} {
		run(t, "cp", filepath.Join(lab.Binaries(t), binary), h.Path("/usr/local/bin"))
	}
	p.Restart(t)
	after := awaitEndpoints(t, h, len(before))
	streams.stop(t, "upgrade")
	if s := status(t, h); s.Version == previousVersion || s.StateID != id {
		t.Errorf("after the upgrade weave %s with state %s, want another version, state %s", s.Version, s.StateID, id)
	}
	if diff := cmp.Diff(stripped(before), stripped(after), cmpAddresses); diff != "" {
		t.Errorf("endpoints (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(networks, networksOf(t, h), cmpAddresses); diff != "" {
		t.Errorf("networks (-before +after):\n%s", diff)
	}

	// The new version goes on with them.
	for _, name := range []string{"plain", "dual", "dockers", "foreign"} {
		h.Run(t, "--network", name, "--name", name+"-c")
		awaitRunning(t, h, name+"-a", name+"-c")
	}
	awaitEndpoints(t, h, 12)
}
