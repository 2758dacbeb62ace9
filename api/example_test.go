// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/weaveplugin/weave/api"
)

// The answers of a host with one network, and on it one endpoint that has lost its IPv6 address.
const (
	exampleNetworks = `[{"id": "77b0a1", "bridge": "wv-77b0a1", "foreign": false, "mtu": 1500,
		"internal": false, "multicast": false, "subnets": [{"subnet": "10.32.0.0/22"}],
		"endpoints": 1, "created": "2026-08-01T12:00:00Z"}]`
	exampleEndpoints = `[{"id": "3f2a9c", "networkId": "77b0a1", "mac": "02:00:00:00:00:01", "bridge": "wv-77b0a1",
		"addresses": ["10.32.0.2/22", "fd00::2/64"], "hostEnd": "wve-3f2a9c",
		"sandbox": "/var/run/docker/netns/0123456789ab", "state": "up", "created": "2026-08-01T12:00:00Z",
		"live": {"source": "kernel", "bridge": "wv-77b0a1", "name": "eth0", "mac": "02:00:00:00:00:01",
			"addresses": ["10.32.0.2/22"], "up": true},
		"drift": [{"kind": "address-missing", "text": "address fd00::2/64 missing"}]}]`
)

// exampleWeave gives these answers at a socket of its own; stop ends it.
func exampleWeave() (socket string, stop func()) {
	dir, err := os.MkdirTemp("", "weave-example")
	if err != nil {
		log.Fatal(err)
	}
	socket = filepath.Join(dir, "weave.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	answers := map[string]string{api.PathNetworks: exampleNetworks, api.PathEndpoints: exampleEndpoints}
	for path, answer := range answers {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) })
	}
	server := &http.Server{Handler: mux}
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
	socket, stop := exampleWeave() // weave's own is at api.DefaultSocket
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

// List the endpoints on one network where the kernel has something else than weave tracks.
func ExampleClient_Endpoints() {
	socket, stop := exampleWeave() // weave's own is at api.DefaultSocket
	defer stop()

	q := api.Query{Networks: []string{"77b0a1"}, Live: api.Kernel}
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
