package api_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// exampleTracker stands for weave's driver: one network, and on it one endpoint that has lost its IPv6 address.
type exampleTracker struct{}

func (exampleTracker) Networks() []driver.Network {
	return []driver.Network{{ID: "77b0a1", Bridge: "wv-77b0a1", MTU: 1500, Pools: []driver.Pool{{Subnet: netip.MustParsePrefix("10.32.0.0/22")}}}}
}

func (exampleTracker) Endpoints() []driver.Endpoint {
	return []driver.Endpoint{{
		ID: "3f2a9c", Network: "77b0a1", HostEnd: "wve-3f2a9c", MAC: "02:00:00:00:00:01", State: driver.Up,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.32.0.2/22"), netip.MustParsePrefix("fd00::2/64")},
	}}
}

func (exampleTracker) Observe(context.Context, []driver.Endpoint, driver.Source) map[driver.EndpointID]driver.Observation {
	return map[driver.EndpointID]driver.Observation{"3f2a9c": {
		Source: driver.Kernel,
		Bridge: "wv-77b0a1",
		Host:   &netstate.Link{Name: "wve-3f2a9c", Up: true},
		Inside: &netstate.Link{Name: "eth0", MAC: mac.MustParse("02:00:00:00:00:01"), Up: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.32.0.2/22")}},
	}}
}

// exampleServer serves the API at a socket of its own; stop ends it.
func exampleServer() (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "weave-example")
	if err != nil {
		log.Fatal(err)
	}
	socket = filepath.Join(dir, "weave.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: api.NewServer(api.Options{Tracker: exampleTracker{}})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(l) }()
	return socket, func() {
		_ = server.Close()
		<-ended
		_ = os.RemoveAll(dir)
	}
}

// List all networks with their subnets.
func ExampleClient_Networks() {
	socket, stop := exampleServer() // yours is at api.DefaultSocket
	defer stop()

	networks, err := api.NewClient(socket).Networks(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	for _, n := range networks {
		fmt.Println(n.Bridge, n.Subnets, n.Endpoints)
	}
	// Output: wv-77b0a1 [10.32.0.0/22] 1
}

// List the endpoints on one network whose kernel state differs from what weave tracks.
func ExampleClient_Endpoints() {
	socket, stop := exampleServer() // yours is at api.DefaultSocket
	defer stop()

	q := api.Query{Networks: []string{"77b0a1"}, Live: driver.Kernel}
	endpoints, err := api.NewClient(socket).Endpoints(context.Background(), q)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range endpoints {
		for _, d := range e.Drift {
			fmt.Printf("%s: %s: %s\n", e.HostEnd, d.Kind, d)
		}
	}
	// Output: wve-3f2a9c: address-missing: address fd00::2/64 missing
}
