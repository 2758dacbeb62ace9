// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/api"
)

// TestWithClient: what the client returns is what the tracker and the inspector have.
func TestWithClient(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "weave.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	host, names := twoNetworks()
	handler := New(Options{Tracker: host, Inspector: host, Names: names, Status: fullStatus, Cluster: twoHosts{}})
	httpServer := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	httpServer.Start()
	defer httpServer.Close()
	c := api.NewClient(socket)
	ctx := t.Context()
	comparePrefixes := cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

	networks, err := c.Networks(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(networks) != 2 || networks[0].Name != "app" || networks[0].Subnets[1].Gateway.String() != "fd00:1::1" {
		t.Errorf("networks %+v: want app with its gateway, then db", networks)
	}

	q := api.Query{Networks: []string{"app"}, Containers: []string{"web"}, Live: api.Nsproc}
	endpoints, err := c.Endpoints(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	n, e, o := web()
	want := []api.Endpoint{{
		ID: string(e.ID), NetworkID: string(n.ID), NetworkName: "app", ContainerID: id("cccc1"), ContainerName: "web",
		MAC: o.Inside.MAC.String(), Addresses: e.Addresses, Gateway: "docker",
		Bridge: n.Bridge, HostEnd: e.HostEnd, Sandbox: e.Sandbox,
		State: api.Up, Created: e.Created, Host: "host1",
		Live: &api.Live{
			Source: api.Kernel, Bridge: n.Bridge,
			Name: "eth0", MAC: o.Inside.MAC.String(), Addresses: o.Inside.Addresses, Up: true,
		},
		Drift: []api.Drift{},
	}}
	if diff := cmp.Diff(want, endpoints, comparePrefixes); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	if host.source != api.Nsproc {
		t.Errorf("observed by %q, want nsproc", host.source)
	}

	hosts, err := c.Hosts(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(hosts) != 2 || !hosts[0].Self || hosts[1].GoneSince.IsZero() {
		t.Errorf("hosts %+v: want this one, and one that has gone", hosts)
	}

	inIt, err := c.Cluster(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&inCluster, inIt, comparePrefixes); diff != "" {
		t.Errorf("cluster (-want +got):\n%s", diff)
	}

	status, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	counted := fullStatus(ctx)
	counted.Networks, counted.Endpoints = 2, api.EndpointCounts{Created: 1, Joined: 1, Up: 2}
	if diff := cmp.Diff(counted, status, comparePrefixes); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}

	_, err = c.Endpoints(ctx, api.Query{Networks: []string{"nowhere"}})
	refusal, ok := errors.AsType[*api.Error](err)
	if !ok || refusal.Code != http.StatusNotFound || !strings.Contains(refusal.Message, "nowhere") {
		t.Errorf("unknown network: %v, want an *api.Error of status 404 that names it", err)
	}
}

// TestClientNamesWithSlashes: a slash in what is named by a user leads to no other path of the API.
func TestClientNamesWithSlashes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "weave.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	host, run := handHost(), &handRun{}
	handler := New(Options{Tracker: host, Inspector: host, Names: handNames(), Nsproc: run})
	httpServer := &httptest.Server{Listener: l, Config: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.RemoteAddr = "uid 0"
			handler.ServeHTTP(w, r)
		}),
	}}
	httpServer.Start()
	defer httpServer.Close()
	c := api.NewClient(socket)
	if _, err := c.RunNsproc(t.Context(), "/worker", api.NsprocConfigure, false); err != nil || run.wanted == "" {
		t.Errorf("ran %q, error %v", run.wanted, err)
	}
	if x, err := c.Inspect(t.Context(), "/worker"); err != nil || x.Endpoint.ContainerName != "worker" {
		t.Errorf("inspected %q, error %v", x.Endpoint.ContainerName, err)
	}
	const want = `endpoint "worker/nsproc": neither`
	if _, err := c.Inspect(t.Context(), "worker/nsproc"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}
