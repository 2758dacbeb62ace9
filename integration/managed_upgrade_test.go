package integration

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// What the upgrade is tested beside: each container is on each network.
const (
	upgradeContainers = 10
	upgradeNetworks   = 5
)

// testUpgrade takes one installation through its life, with containers running.
func testUpgrade(t *testing.T, m managedLab) {
	h := m.host(t, "upgrade", "192.0.2.23/24")
	install(t, h)
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
	var listing string
	lab.Eventually(t, 30*time.Second, "every container is known by its id", func() error {
		if listing = h.Weave(t, "ps", "--format", "weave"); strings.Contains(listing, "weave:") {
			return errors.New(listing)
		}
		return nil
	})

	// Neither the plugin's absence nor its coming back costs a packet.
	streams := pingAll(t, h, before)
	h.Docker(t, "plugin", "disable", managedName)
	h.Docker(t, "plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", managedName, managedNext)
	h.Docker(t, "plugin", "enable", managedName)
	awaitEndpoints(t, h, len(before))
	streams.stop(t, "upgrade")
	if diff := cmp.Diff(stripped(before), stripped(awaitEndpoints(t, h, len(before))), cmpAddresses); diff != "" {
		t.Errorf("the listing is another after the upgrade (-before +after):\n%s", diff)
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
	install(t, h)
	after := awaitEndpoints(t, h, len(before))
	streams.stop(t, "rm and install")
	if got, want := places(after), places(before); !cmp.Equal(got, want) {
		t.Errorf("taken up from Docker (-before +after):\n%s", cmp.Diff(want, got))
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
	id := status(t, h).StateID
	h.PowerOff(t)
	h.PowerOn(t)
	h.StartDocker(t)
	awaitAllRunning()
	if now := status(t, h).StateID; now != id {
		t.Errorf("the state is %s after a reboot, and was %s", now, id)
	}
}

// testSettingsAfterUpgrade: what was set stays, what is new has its default and can't be set.
func testSettingsAfterUpgrade(t *testing.T, h *lab.Host) {
	t.Helper()
	environment := h.Docker(t, "plugin", "inspect", "-f", "{{.Settings.Env}}", managedName)
	if !strings.Contains(environment, "WEAVE_RANGE=10.99.0.0/16") || strings.Contains(environment, "WEAVE_MTU") {
		t.Errorf("environment after the upgrade: %s; want the range that was set, and no variable that is new", environment)
	}
	if s := status(t, h); s.Version != "next" {
		t.Errorf("version %s, want next", s.Version)
	}
	want(t, h.Weave(t, "status"), "10.99.0.0/16")
	weaveNetwork(t, h, "later", "--internal")
	want(t, h.Weave(t, "networks"), "1500")
	h.Docker(t, "network", "rm", "later")
}

// stripped is what of a listing the plugin alone knows.
func stripped(endpoints []api.Endpoint) []api.Endpoint {
	var out []api.Endpoint
	for _, e := range endpoints {
		e.Live, e.Drift, e.NetworkName, e.ContainerName, e.ContainerID = nil, nil, "", "", ""
		out = append(out, e)
	}
	return out
}

// places is what of a listing outlasts the state: host end, MAC, and addresses by endpoint.
func places(endpoints []api.Endpoint) map[string]string {
	out := map[string]string{}
	for _, e := range endpoints {
		out[e.ID] = fmt.Sprint(e.NetworkID, e.HostEnd, e.Bridge, e.MAC, e.Addresses)
	}
	return out
}

// pingAll pings from each endpoint the next one on its network, fifty times a second.
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
