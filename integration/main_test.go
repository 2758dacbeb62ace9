// SPDX-License-Identifier: Apache-2.0

// Package integration tests weave as its users run it: the built binaries beside a real Docker Engine, on test hosts.
// Each file tests one promise.
//
// The tests themselves run in the machine's own namespaces and change nothing there; all that they test is on the
// hosts of package lab.
package integration

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// outside is the address of the underlay's bridge: from a host's view, an address of the rest of the world.
var outside = netip.MustParsePrefix("192.0.2.1/24")

// sharedAddress is the shared host's address on the underlay.
var sharedAddress = netip.MustParsePrefix("192.0.2.10/24")

// shared is a host with Docker and a plugin, for all tests that leave no trace on it. They run one after the other.
var shared struct {
	tried    bool
	underlay *lab.Underlay
	host     *lab.Host
	plugin   *lab.Plugin
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.host != nil {
		if err := shared.host.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if shared.underlay != nil {
		shared.underlay.Close()
	}
	os.Exit(code)
}

// sharedHost returns the shared host. The first call starts it.
func sharedHost(t testing.TB) *lab.Host {
	t.Helper()
	if !shared.tried {
		shared.tried = true
		shared.underlay = lab.BootUnderlay(t, outside)
		shared.host = lab.Boot(t, lab.Options{Name: "shared", Underlay: shared.underlay, Address: sharedAddress})
		shared.plugin = shared.host.BootPlugin(t)
		version := shared.host.Docker(t, "version", "-f", "{{.Server.Version}}")
		fmt.Println("engine:", strings.TrimSpace(version)) // integration/engines reads this line
	}
	if shared.plugin == nil {
		t.Fatal("the shared host did not start: see the first test that failed")
	}
	shared.host.Watch(t)
	return shared.host
}

// startHost starts a host with a plugin, with further arguments of `weave serve`, for t alone, which runs in parallel
// with other tests.
func startHost(t *testing.T, name string, args ...string) (*lab.Host, *lab.Plugin) {
	t.Helper()
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: name})
	return h, h.StartPlugin(t, args...)
}

// compareOften makes the plugin compare its endpoints and pools with Docker's every 15 s, instead of once a minute.
const compareOften = "--docker-interval=15s"

// weaveNetwork creates a weave network with the given options of `docker network create`. It is removed at the end of
// t.
func weaveNetwork(t testing.TB, h *lab.Host, name string, options ...string) {
	t.Helper()
	h.CreateNetwork(t, name, append([]string{"-d", "weave"}, options...)...)
}

// endpoints returns the endpoints that weave lists for a query.
func endpoints(t testing.TB, h *lab.Host, q api.Query) []api.Endpoint {
	t.Helper()
	found, err := api.NewClient(h.Path(lab.APISocket)).Endpoints(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// status returns weave's status.
func status(t testing.TB, h *lab.Host) api.Status {
	t.Helper()
	s, err := api.NewClient(h.Path(lab.APISocket)).Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitEndpoints waits until weave lists exactly want endpoints, all of them up and without drift, in live listings
// from both sources. It returns them.
func awaitEndpoints(t testing.TB, h *lab.Host, want int) []api.Endpoint {
	t.Helper()
	var found []api.Endpoint
	lab.Eventually(t, 15*time.Second, fmt.Sprintf("%d endpoints, up and without drift", want), func() error {
		for _, source := range []api.Source{api.Nsproc, api.Kernel} {
			found = endpoints(t, h, api.Query{Live: source})
			if len(found) != want {
				return fmt.Errorf("%d endpoints, want %d", len(found), want)
			}
			for _, e := range found {
				if e.State != api.Up || len(e.Drift) > 0 {
					return fmt.Errorf("endpoint %s by %s: state %s, drift %v", e.ID, source, e.State, e.Drift)
				}
			}
		}
		return nil
	})
	return found
}

// awaitNoEndpoints waits until weave lists no endpoint and the host has no link of one.
func awaitNoEndpoints(t testing.TB, h *lab.Host) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, "nothing left of any endpoint", func() error {
		var left []string
		for _, e := range endpoints(t, h, api.Query{}) {
			left = append(left, "endpoint "+e.ID)
		}
		left = append(left, linksOf(t, h, "wve-", "wvc-")...)
		if len(left) > 0 {
			return errors.New(strings.Join(left, ", "))
		}
		return nil
	})
}

// linksOf returns the names of the host's links that start with one of the prefixes.
func linksOf(t testing.TB, h *lab.Host, prefixes ...string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(h.Exec(t, "ip", "-o", "link")) {
		_, rest, _ := strings.Cut(line, ": ")
		name, _, _ := strings.Cut(rest, ":")
		name, _, _ = strings.Cut(name, "@")
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			found = append(found, name)
		}
	}
	return found
}

// ping fails t if container can't ping to, a name or an address, within 10 s.
func ping(t testing.TB, h *lab.Host, container, to string) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, container+" pings "+to, func() error { return pingErr(h, container, to) })
}

// noPing fails t if container can ping to. One try is enough, because these tests are about packets that must never
// pass.
func noPing(t testing.TB, h *lab.Host, container, to string) {
	t.Helper()
	if err := pingErr(h, container, to); err == nil {
		t.Errorf("%s reaches %s, which it must not", container, to)
	}
}

func pingErr(h *lab.Host, container, to string) error {
	_, err := h.DockerErr("exec", container, "ping", "-c1", "-W1", to)
	return err
}

// attachment is Docker's description of a container's attachment to a network.
type attachment struct {
	EndpointID, IPAddress, GlobalIPv6Address, MacAddress, Gateway string
}

// attachmentOf returns Docker's description of a container's attachment to a network.
func attachmentOf(t testing.TB, h *lab.Host, container, network string) attachment {
	t.Helper()
	var c struct {
		NetworkSettings struct{ Networks map[string]attachment }
	}
	h.Inspect(t, container, &c)
	a, ok := c.NetworkSettings.Networks[network]
	if !ok {
		t.Fatalf("container %s is not on network %s", container, network)
	}
	return a
}

// number returns the number in an environment variable, or the fallback if it is not set.
func number(t *testing.T, variable string, fallback int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number", variable, text)
	}
	return n
}

// want fails t if got does not contain all of the texts.
func want(t testing.TB, got string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(got, text) {
			t.Errorf("want %q in:\n%s", text, got)
		}
	}
}
