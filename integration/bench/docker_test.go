package bench

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// suites are the Debian releases whose engines are measured.
var suites = []string{lab.Docker20, lab.Docker26, lab.Docker28}

// The drivers that are compared.
var drivers = []string{"weave", "bridge"}

// engine is a host's Docker Engine, called over its API: the start of a docker CLI would take longer than most calls.
type engine struct {
	*lab.Host
	api     *http.Client
	version string // such as 20.10
}

// onEachEngine runs f on a host with each of the engines and with a plugin.
func onEachEngine(b *testing.B, f func(b *testing.B, e *engine)) {
	for _, suite := range suites {
		b.Run(suite, func(b *testing.B) { f(b, startEngine(b, lab.Root(b, suite))) })
	}
}

// startEngine starts a host on a root, with its engine and a plugin.
func startEngine(b *testing.B, root string) *engine {
	b.Helper()
	h := lab.Start(b, lab.Options{Name: "engine", Root: root})
	h.StartPlugin(b, quiet)
	e := &engine{Host: h, api: unixClient(h.Path(lab.DockerSocket))}
	var version struct{ Version string }
	if err := get(e.api, "http://docker/version", &version); err != nil {
		b.Fatal(err)
	}
	parts := strings.SplitN(version.Version, ".", 3)
	e.version = strings.Join(parts[:min(2, len(parts))], ".")
	results.Machine.addEngine(version.Version)
	return e
}

// post makes a call of the engine's API; it may be called from any goroutine.
func (e *engine) post(b *testing.B, path string, request any) {
	b.Helper()
	if err := post(e.api, "http://docker"+path, request, nil); err != nil {
		b.Error(err)
	}
}

// atOnce runs f for 0 to n-1, all at the same time, and waits for the last.
func atOnce(n int, f func(i int)) {
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { f(i) })
	}
	group.Wait()
}

// kind names networks with a way out and without.
func kind(internal bool) string {
	if internal {
		return "--internal"
	}
	return "with a way out"
}

// networkName names the network of a driver and a kind that a benchmark makes.
func networkName(driver string, internal bool) string {
	return fmt.Sprintf("%s-%t", driver, internal)
}

// addNetworks makes a network of each driver and both kinds. They go with the host: Docker 20.10 sometimes takes one
// for in use, whose endpoints came and went many at once (moby#42119), though it has had all of them deleted.
func (e *engine) addNetworks(b *testing.B) {
	b.Helper()
	for _, driver := range drivers {
		e.Docker(b, "network", "create", "-d", driver, "--internal", networkName(driver, true))
		e.Docker(b, "network", "create", "-d", driver, networkName(driver, false))
	}
}
