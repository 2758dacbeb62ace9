// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"testing"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// TestInspect: weave inspect shows both ends of a container's veth pair, its namespace, its servers, the firewall's
// rules and what has drifted.
func TestInspect(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "inspected")
	h.RunCommand(t, []string{
		"--network", "inspected", "--name", "inspected", "--dns", "192.0.2.53", "--dns-search", "example.com",
	}, "httpd", "-f", "-p", "8080")
	e := awaitEndpoints(t, h, 1)[0]
	h.Docker(t, "exec", "inspected", "ping", "-c", "1", "-W", "5", gatewayOf(t, h, "inspected"))

	var x api.Inspection
	if err := json.Unmarshal([]byte(h.Weave(t, "inspect", "inspected", "--format", "json")), &x); err != nil {
		t.Fatal(err)
	}
	if len(x.Endpoint.Drift) > 0 || len(x.Problems) > 0 {
		t.Errorf("drift %+v, problems %q, want none", x.Endpoint.Drift, x.Problems)
	}
	if x.HostEnd == nil || x.Inside == nil || x.HostEnd.Peer != x.Inside.Index || x.Inside.Peer != x.HostEnd.Index ||
		x.HostEnd.Name != e.HostEnd || x.Inside.MAC != e.MAC || x.HostEnd.State != "forwarding" {
		t.Errorf("ends %+v and %+v", x.HostEnd, x.Inside)
	}
	if c := x.Inside.Counters; c == nil || c.TxPackets == 0 || c.RxPackets == 0 {
		t.Errorf("counters inside %+v, want those of a ping", c)
	}
	if x.DNS == nil || len(x.DNS.Servers) != 1 || x.DNS.Servers[0] != "192.0.2.53" {
		t.Errorf("dns %+v, want the server that was given", x.DNS)
	}
	want(t, h.Weave(t, "inspect", e.ID[:12]),
		"inspected, id "+e.ContainerID[:12], e.HostEnd, "port of "+e.Bridge+": forwarding",
		"the bridge sends here: ", e.MAC, "Routes:       default via ", "tcp ", ":8080", "on all addresses",
		"search example.com", "FORWARD", "0: from all lookup local", "Drift:        none")

	h.Exec(t, "nsenter", "--net="+e.Sandbox, "ip", "address", "flush", "dev", "eth0")
	want(t, h.Weave(t, "inspect", "inspected"), e.Addresses[0].String()+" missing: ", "restart the container")
}

// gatewayOf returns the first gateway of a network.
func gatewayOf(t testing.TB, h *lab.Host, network string) string {
	t.Helper()
	return h.Docker(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network)
}
