// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

func TestContainersReachEachOtherByName(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app")
	h.Run(t, "--network", "app", "--name", "web")
	h.Run(t, "--network", "app", "--name", "client", "--network-alias", "c2")

	ping(t, h, "client", "web")
	ping(t, h, "web", "c2")
	awaitEndpoints(t, h, 2)
	h.Docker(t, "rm", "-f", "web", "client")
	awaitNoEndpoints(t, h)
	h.Docker(t, "network", "rm", "app")
	if left := linksOf(t, h, "wv"); len(left) > 0 {
		t.Errorf("links after the removal of the network: %v", left)
	}
}

func TestListing(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app", "--subnet", "10.50.0.0/24")
	weaveNetwork(t, h, "other")
	id := h.Run(t, "--network", "app", "--name", "web", "--ip", "10.50.0.77")
	h.Run(t, "--network", "other", "--name", "postgres")
	lab.Eventually(t, 10*time.Second, "names in the listing", func() error {
		for _, e := range endpoints(t, h, api.Query{}) {
			if e.ContainerName == "" || e.NetworkName == "" {
				return fmt.Errorf("endpoint %s has no names", e.ID)
			}
		}
		return nil
	})

	table := h.Weave(t, "ps")
	want(t, table, "web", "postgres", "app", "other", "10.50.0.77/24", attachmentOf(t, h, "web", "app").MacAddress)
	for _, args := range [][]string{
		{"ps", "web"}, {"ps", id[:12]}, {"ps", "--network", "app"},
		{"ps", "web", "--live"}, {"ps", "web", "--live=nsproc"},
	} {
		got := h.Weave(t, args...)
		want(t, got, "10.50.0.77/24", "web")
		if strings.Contains(got, "postgres") {
			t.Errorf("%v lists other containers, too:\n%s", args, got)
		}
	}
	weaveNetLine := fmt.Sprintf("%s %s 10.50.0.77/24", id[:12], attachmentOf(t, h, "web", "app").MacAddress)
	want(t, h.Weave(t, "ps", "--format", "weave"), weaveNetLine)
	web := endpoints(t, h, api.Query{Containers: []string{"web"}})[0]
	want(t, h.Weave(t, "ps", "--format", "{{.HostEnd}}", "web"), web.HostEnd)
	if out := h.Weave(t, "ps", "--format", "json"); !json.Valid([]byte(out)) {
		t.Errorf("not JSON: %s", out)
	}
	want(t, h.Weave(t, "networks"), "app", "10.50.0.0/24", "other")
	want(t, h.Weave(t, "status"), status(t, h).StateID)
}

func TestLiveListingShowsDrift(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app")
	h.Run(t, "--network", "app", "--name", "web", "--cap-add", "NET_ADMIN")
	e := awaitEndpoints(t, h, 1)[0]

	h.Docker(t, "exec", "web", "ip", "address", "del", e.Addresses[0].String(), "dev", "eth0")
	for _, source := range []string{"kernel", "nsproc"} {
		want(t, h.Weave(t, "ps", "--live="+source), "address "+e.Addresses[0].String()+" missing")
	}
	h.Docker(t, "exec", "web", "ip", "address", "add", e.Addresses[0].String(), "dev", "eth0")
	awaitEndpoints(t, h, 1)
}

func TestConnectAndDisconnectRunningContainer(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "one", "--internal")
	weaveNetwork(t, h, "two", "--internal")
	h.Run(t, "--network", "one", "--name", "both")
	h.Run(t, "--network", "one", "--name", "left")
	h.Run(t, "--network", "two", "--name", "right")

	right := attachmentOf(t, h, "right", "two").IPAddress
	noPing(t, h, "both", right)
	for range 5 {
		h.Docker(t, "network", "connect", "two", "both")
		ping(t, h, "both", "left")
		ping(t, h, "both", "right")
		awaitEndpoints(t, h, 4)
		if n := statsNetworks(t, h, "both"); n != 2 {
			t.Errorf("docker stats has %d links for a container on two networks", n)
		}
		h.Docker(t, "network", "disconnect", "two", "both")
		awaitEndpoints(t, h, 3)
		if n := statsNetworks(t, h, "both"); n != 1 {
			t.Errorf("docker stats has %d links for a container on one network", n)
		}
	}
	ping(t, h, "both", "left")
	noPing(t, h, "both", right)
	if links := containerLinks(t, h, "both"); !slices.Equal(links, []string{"lo", "eth0"}) {
		t.Errorf("after five times connect and disconnect the container has %v", links)
	}
}

// statsNetworks returns for how many links of a container Docker has statistics.
func statsNetworks(t *testing.T, h *lab.Host, container string) int {
	t.Helper()
	out := h.Exec(t, "curl", "-s", "--unix-socket", lab.DockerSocket,
		"http://docker/containers/"+container+"/stats?stream=false&one-shot=true")
	var stats struct{ Networks map[string]any }
	if err := json.Unmarshal([]byte(out), &stats); err != nil {
		t.Fatalf("statistics of %s: %v", container, err)
	}
	return len(stats.Networks)
}

// containerLinks returns the names of a container's links.
func containerLinks(t *testing.T, h *lab.Host, container string) []string {
	t.Helper()
	var names []string
	for line := range strings.Lines(h.Docker(t, "exec", container, "ip", "-o", "link")) {
		name := strings.Fields(line)[1]
		names = append(names, strings.TrimSuffix(strings.SplitN(name, "@", 2)[0], ":"))
	}
	return names
}

func TestSeveralNetworksInOneContainer(t *testing.T) {
	h := sharedHost(t)
	names := []string{"n1", "n2", "n3"}
	for _, n := range names {
		weaveNetwork(t, h, n)
		h.Run(t, "--network", n, "--name", "peer-"+n)
	}
	h.Docker(t, "create", "--network", "n1", "--name", "all", lab.Image)
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "all") })
	h.Docker(t, "network", "connect", "n2", "all")
	h.Docker(t, "network", "connect", "n3", "all")
	h.Docker(t, "start", "all")
	for _, n := range names {
		ping(t, h, "all", "peer-"+n)
	}
	awaitEndpoints(t, h, 6)
}

func TestAddressesAndMACOfTheUser(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "dual", "--ipv6", "--subnet", "10.51.0.0/24", "--subnet", "fd51::/64")
	h.Run(t, "--network", "dual", "--name", "chosen",
		"--ip", "10.51.0.99", "--ip6", "fd51::99", "--mac-address", "02:42:aa:bb:cc:dd")
	h.Run(t, "--network", "dual", "--name", "peer")

	a := attachmentOf(t, h, "chosen", "dual")
	if a.IPAddress != "10.51.0.99" || a.GlobalIPv6Address != "fd51::99" || a.MacAddress != "02:42:aa:bb:cc:dd" {
		t.Errorf("Docker has not the chosen addresses, but %+v", a)
	}
	inside := h.Docker(t, "exec", "chosen", "ip", "address", "show", "eth0")
	want(t, inside, "02:42:aa:bb:cc:dd", "10.51.0.99/24", "fd51::99/64")
	ping(t, h, "peer", "10.51.0.99")
	ping(t, h, "peer", "fd51::99")
	awaitEndpoints(t, h, 2)

	if peer := attachmentOf(t, h, "peer", "dual"); peer.MacAddress == "" || peer.MacAddress == a.MacAddress {
		t.Errorf("MAC of the other container: %q", peer.MacAddress)
	}
	h.Docker(t, "restart", "-t", "1", "chosen")
	if b := attachmentOf(t, h, "chosen", "dual"); b.MacAddress != a.MacAddress || b.IPAddress != a.IPAddress {
		t.Errorf("after a restart: %+v, before: %+v", b, a)
	}
}

func TestInternalNetworkHasNoWayOut(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "inner", "--internal")
	h.Run(t, "--network", "inner", "--name", "one")
	h.Run(t, "--network", "inner", "--name", "two")
	ping(t, h, "one", "two")
	if links := containerLinks(t, h, "one"); !slices.Equal(links, []string{"lo", "eth0"}) {
		t.Errorf("links %v", links)
	}
	noPing(t, h, "one", outside.Addr().String())
}

func TestMTU(t *testing.T) {
	h := sharedHost(t)
	for i, option := range []string{"works.weave.mtu", "com.docker.network.driver.mtu"} {
		name := fmt.Sprintf("mtu%d", i)
		weaveNetwork(t, h, name, "-o", option+"=1280")
		h.Run(t, "--network", name, "--name", name+"-a")
		h.Run(t, "--network", name, "--name", name+"-b")
		want(t, h.Docker(t, "exec", name+"-a", "ip", "link", "show", "eth0"), "mtu 1280")
		ping(t, h, name+"-a", name+"-b")
		h.Docker(t, "exec", name+"-a", "ping", "-c1", "-w5", "-s", "4000", name+"-b")
	}
}

func TestForeignBridge(t *testing.T) {
	h := sharedHost(t)
	h.Exec(t, "ip", "link", "add", "mine", "type", "bridge")
	h.Exec(t, "ip", "address", "add", "10.52.0.1/24", "dev", "mine")
	h.Exec(t, "ip", "link", "set", "mine", "up")
	t.Cleanup(func() { h.Exec(t, "ip", "link", "del", "mine") })
	before := settings(h.Exec(t, "ip", "-d", "address", "show", "mine"))

	weaveNetwork(t, h, "on-mine", "--subnet", "10.52.0.0/24", "--gateway", "10.52.0.1", "-o", "works.weave.bridge=mine")
	h.Run(t, "--network", "on-mine", "--name", "guest")
	ping(t, h, "guest", "10.52.0.1")
	if e := awaitEndpoints(t, h, 1); e[0].Bridge != "mine" {
		t.Errorf("listed on bridge %s", e[0].Bridge)
	}
	h.Docker(t, "rm", "-f", "guest")
	h.Docker(t, "network", "rm", "on-mine")
	awaitNoEndpoints(t, h)
	if diff := cmp.Diff(before, settings(h.Exec(t, "ip", "-d", "address", "show", "mine"))); diff != "" {
		t.Errorf("the user's bridge has changed (-before +after):\n%s", diff)
	}
}

// settings returns the output of `ip -d` without what changes by itself: timers, carrier, and what depends on the
// ports.
func settings(ip string) []string {
	volatile := []string{"state", "link/ether", "bridge_id", "designated_root", "tso_max_size"}
	var kept []string
	words := strings.Fields(ip)
	for i := 0; i < len(words); i++ {
		switch w := words[i]; {
		case strings.HasSuffix(w, "_timer") || slices.Contains(volatile, w):
			i++ // skip its value, too
		case strings.HasPrefix(w, "<") || w == "tentative":
		default:
			kept = append(kept, w)
		}
	}
	return kept
}

func TestHostIsNotOnTheNetwork(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app", "-o", "works.weave.gateway=docker")
	h.Run(t, "--network", "app", "--name", "web")
	e := awaitEndpoints(t, h, 1)[0]
	for _, link := range []string{e.Bridge, e.HostEnd} {
		if out := h.Exec(t, "ip", "-o", "address", "show", "dev", link); out != "" {
			t.Errorf("%s has an address on the host: %s", link, out)
		}
	}
}
