// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/ipam"
)

// quiet makes the plugin log at its default level; the lab runs it with debug.
const quiet = "--log-level=info"

// alone is a host without Docker. The benchmark itself calls the plugin as Docker does, so that only the plugin is
// measured and a thousand endpoints take no longer than half a minute.
type alone struct {
	*lab.Host
	plugin   *lab.Plugin
	calls    *lab.Caller
	networks []network.IPAMData
	ids      []string // of networks
	made     int      // endpoints, each in a sandbox of its own
}

func startAlone(b *testing.B) *alone {
	b.Helper()
	return startAloneWith(b, lab.Options{})
}

// startAloneWith is startAlone with other options of the host, and further arguments of the plugin.
func startAloneWith(b *testing.B, o lab.Options, args ...string) *alone {
	b.Helper()
	o.Name, o.Root, o.NoDocker = "alone", "/", true
	h := lab.Start(b, o)
	p := h.StartPlugin(b, append([]string{quiet, "--docker-socket=none"}, args...)...)
	return &alone{Host: h, plugin: p, calls: h.Caller()}
}

// addNetwork makes a network with a subnet that weave chooses.
func (a *alone) addNetwork(b *testing.B) {
	b.Helper()
	a.addNetworkWith(b, nil)
}

// addNetworkWith is addNetwork with options of the IPAM.
func (a *alone) addNetworkWith(b *testing.B, options map[string]string) {
	b.Helper()
	var pool dockeripam.RequestPoolResponse
	a.call(b, "IpamDriver.RequestPool",
		dockeripam.RequestPoolRequest{AddressSpace: ipam.LocalSpace, Options: options}, &pool)
	id := lab.NewID()
	data := network.IPAMData{AddressSpace: ipam.LocalSpace, Pool: pool.Pool}
	a.call(b, "NetworkDriver.CreateNetwork",
		network.CreateNetworkRequest{NetworkID: id, IPv4Data: []*network.IPAMData{&data}}, nil)
	a.ids = append(a.ids, id)
	data.AddressSpace = pool.PoolID // for RequestAddress
	a.networks = append(a.networks, data)
}

// grow makes endpoints, distributed over the networks, until there are as many as the number to, and waits until all
// are up.
func (a *alone) grow(b *testing.B, to int) {
	b.Helper()
	var script strings.Builder // does what Docker does with the container ends
	for ; a.made < to; a.made++ {
		n := a.made % len(a.ids)
		var address dockeripam.RequestAddressResponse
		a.call(b, "IpamDriver.RequestAddress",
			dockeripam.RequestAddressRequest{PoolID: a.networks[n].AddressSpace}, &address)
		endpoint, sandbox := lab.NewID(), fmt.Sprintf("c%d", a.made)
		a.call(b, "NetworkDriver.CreateEndpoint", network.CreateEndpointRequest{
			NetworkID: a.ids[n], EndpointID: endpoint,
			Interface: &network.EndpointInterface{Address: address.Address},
		}, nil)
		var joined network.JoinResponse
		a.call(b, "NetworkDriver.Join", network.JoinRequest{
			NetworkID: a.ids[n], EndpointID: endpoint, SandboxKey: "/run/netns/" + sandbox,
		}, &joined)
		fmt.Fprintf(&script, "ip netns add %[1]s; ip link set %[2]s netns %[1]s name eth0; "+
			"ip -n %[1]s address add %[3]s dev eth0; ip -n %[1]s link set eth0 up\n",
			sandbox, joined.InterfaceName.SrcName, address.Address)
	}
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	cmd := a.Command(ctx, "sh", "-e")
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("move container ends into sandboxes: %v\n%s", err, out)
	}
	lab.Eventually(b, time.Minute, "endpoints up", func() error {
		endpoints, err := api.NewClient(a.Path(lab.APISocket)).Endpoints(ctx, api.Query{})
		up := 0
		for _, e := range endpoints {
			if e.State == api.Up {
				up++
			}
		}
		if err == nil && up != to {
			err = fmt.Errorf("%d are up, want %d", up, to)
		}
		return err
	})
}

// call calls the plugin as Docker does.
func (a *alone) call(b *testing.B, call string, request, response any) {
	b.Helper()
	if err := a.calls.Call(context.Background(), call, request, response); err != nil {
		b.Fatal(err)
	}
}

// unixClient returns a client for the HTTP server on a Unix socket.
func unixClient(socket string) *http.Client {
	transport := api.UnixTransport(socket)
	transport.MaxIdleConnsPerHost = 64
	return &http.Client{Timeout: time.Minute, Transport: transport}
}

// post posts a request as JSON and decodes the reply into response if that is not nil.
func post(c *http.Client, url string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	r, err := c.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	return decode(r, url, response)
}

// get reads a whole reply and decodes it into response if that is not nil.
func get(c *http.Client, url string, response any) error {
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	return decode(r, url, response)
}

// decode reads a whole reply and decodes it into response if that is not nil.
func decode(r *http.Response, url string, response any) error {
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if r.StatusCode >= 300 {
		return fmt.Errorf("%s: %s: %s", url, r.Status, body)
	}
	if response == nil {
		return nil
	}
	return json.Unmarshal(body, response)
}
