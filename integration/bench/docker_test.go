// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// suites are the Debian suites whose versions of Docker are measured.
var suites = []string{lab.Docker20, lab.Docker26, lab.Docker28, lab.Docker29}

// drivers are the network drivers that are compared.
var drivers = []string{"weave", "bridge"}

// dockerHost is a host with Docker, which is called through its API: starting the docker command takes longer than most
// calls.
type dockerHost struct {
	*lab.Host
	api     *http.Client
	version string // such as 20.10
}

// onEachDocker runs f with each version of Docker, on a host with a plugin.
func onEachDocker(b *testing.B, f func(b *testing.B, e *dockerHost)) {
	for _, suite := range suites {
		b.Run(suite, func(b *testing.B) { f(b, startDockerHost(b, lab.Root(b, suite))) })
	}
}

// startDockerHost starts a host with the given root directory, with Docker and a plugin.
func startDockerHost(b *testing.B, root string) *dockerHost {
	b.Helper()
	return startDockerHostWith(b, lab.Options{Name: "docker", Root: root})
}

// startDockerHostWith is startDockerHost with other options, and further arguments of the plugin.
func startDockerHostWith(b *testing.B, o lab.Options, args ...string) *dockerHost {
	b.Helper()
	h := lab.Start(b, o)
	h.StartPlugin(b, append([]string{quiet}, args...)...)
	e := &dockerHost{Host: h, api: unixClient(h.Path(lab.DockerSocket))}
	var version struct{ Version string }
	if err := get(e.api, "http://docker/version", &version); err != nil {
		b.Fatal(err)
	}
	parts := strings.SplitN(version.Version, ".", 3)
	e.version = strings.Join(parts[:min(2, len(parts))], ".")
	results.Machine.addDocker(version.Version)
	return e
}

// post calls Docker's API. It may be called from any goroutine.
func (e *dockerHost) post(b *testing.B, path string, request any) {
	b.Helper()
	if err := post(e.api, "http://docker"+path, request, nil); err != nil {
		b.Error(err)
	}
}

// atOnce calls f for 0 to n-1, all at the same time, and returns when the last call has.
func atOnce(n int, f func(i int)) {
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { f(i) })
	}
	group.Wait()
}

// kind describes internal and other networks in the table.
func kind(internal bool) string {
	if internal {
		return "--internal"
	}
	return "with a way out"
}

// networkName returns the name of the network that addNetworks makes.
func networkName(driver string, internal bool) string {
	return fmt.Sprintf("%s-%t", driver, internal)
}

// addNetworks makes an internal and another network with each driver. They are not removed before the host ends:
// after many endpoints were made and deleted at the same time, Docker 20.10 sometimes counts a network without
// endpoints as in use (moby#42119).
func (e *dockerHost) addNetworks(b *testing.B) {
	b.Helper()
	for _, driver := range drivers {
		e.Docker(b, "network", "create", "-d", driver, "--internal", networkName(driver, true))
		e.Docker(b, "network", "create", "-d", driver, networkName(driver, false))
	}
}
