// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// TestCheck causes faults for real between two containers, and has weave check name the layer of each.
func TestCheck(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "checked")
	weaveNetwork(t, h, "elsewhere")
	web := func(name, network string, command ...string) api.Endpoint {
		h.RunCommand(t, []string{"--network", network, "--name", name}, command...)
		for _, e := range endpoints(t, h, api.Query{Containers: []string{name}}) {
			return e
		}
		t.Fatalf("no endpoint of %s", name)
		return api.Endpoint{}
	}
	idle := []string{"sleep", "3600"}
	ada := web("ada", "checked", idle...)
	bob := web("bob", "checked", "httpd", "-f", "-p", "80")
	web("shy", "checked", "httpd", "-f", "-p", "127.0.0.1:80")
	web("idle", "checked", idle...)
	web("eve", "elsewhere", idle...)
	awaitEndpoints(t, h, 5)
	inside := func(e api.Endpoint, command string) {
		t.Helper()
		h.Exec(t, "nsenter", append([]string{"--net=" + e.Sandbox}, strings.Fields(command)...)...)
	}
	address := bob.Addresses[0].Addr().String()
	for _, tc := range []struct {
		name          string
		args          string
		breakIt, mend func()
		failed        api.CheckLayer
		status        int
		evidence      string
	}{
		{"nothing", "ada bob --port 80", nil, nil, "", 0, ""},
		{"no port", "ada bob", nil, nil, "", 0, ""},
		{"an address", "ada " + address + " --port 80", nil, nil, "", 0, ""},
		{"nobody listens", "ada idle --port 80", nil, nil, api.LayerListener, 15, "nobody listens at port 80 in idle"},
		{"it listens at 127.0.0.1", "ada shy --port 80", nil, nil, api.LayerListener, 15, "of 127.0.0.1 only"},
		{"the sender has lost its address", "ada bob",
			func() { inside(ada, "ip address flush dev eth0") },
			func() { inside(ada, "ip address add "+ada.Addresses[0].String()+" dev eth0") },
			api.LayerFrom, 10, "missing"},
		{"another route wins", "ada bob",
			func() { inside(ada, "ip route add "+address+"/32 dev lo") },
			func() { inside(ada, "ip route del "+address+"/32 dev lo") },
			api.LayerRoute, 11, "out of lo"},
		{"the receiver is down", "ada bob --port 80",
			func() { inside(bob, "ip link set eth0 down") },
			func() { inside(bob, "ip link set eth0 up") },
			api.LayerTo, 12, "eth0 down"},
		{"a stale neighbour", "ada bob --port 80",
			func() {
				inside(ada, "ip neighbour replace "+address+" lladdr 02:00:00:00:00:99 dev eth0 nud permanent")
			},
			func() { inside(ada, "ip neighbour del "+address+" dev eth0") },
			api.LayerNeighbour, 13, "is at 02:00:00:00:00:99 for ada"},
		{"the receiver answers no ARP", "ada bob --port 80",
			func() { inside(bob, "ip link set eth0 arp off"); inside(ada, "ip neighbour flush dev eth0") },
			func() { inside(bob, "ip link set eth0 arp on") },
			api.LayerNeighbour, 13, "nobody answers"},
		{"a small MTU", "ada bob --port 80",
			func() { inside(bob, "ip link set eth0 mtu 1000") },
			func() { inside(bob, "ip link set eth0 mtu 1500") },
			api.LayerSize, 17, "packets of 1500 bytes get no answer, small ones do"},
		{"a firewall in the container", "ada bob --port 80",
			func() { inside(bob, "iptables -A INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset") },
			func() { inside(bob, "iptables -F INPUT") },
			api.LayerConnection, 16, "refuses the connection"},
		{"mended", "ada bob --port 80", nil, nil, "", 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.breakIt != nil {
				tc.breakIt()
				defer tc.mend()
			}
			out, err := h.Command(t.Context(), lab.Weave,
				append([]string{"check", "--format", "json"}, strings.Fields(tc.args)...)...).Output()
			var c api.Check
			if err := json.Unmarshal(out, &c); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			status := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				status = exit.ExitCode()
			}
			if c.Failed != tc.failed || status != tc.status {
				t.Errorf("failed %q, status %d, want %q, %d: %+v", c.Failed, status, tc.failed, tc.status, c.Layers)
			}
			for _, l := range c.Layers {
				if l.Layer == tc.failed && !strings.Contains(l.Evidence, tc.evidence) {
					t.Errorf("evidence %q, want %q", l.Evidence, tc.evidence)
				}
			}
		})
	}
	_, err := h.WeaveErr("check", "ada", "eve")
	if err == nil {
		t.Fatal("containers on different networks reach each other")
	}
	want(t, err.Error(), "ada and eve are on no network together (checked and elsewhere)", "docker network connect")
	want(t, h.Weave(t, "check", "ada", "bob"), "from ada to bob ("+address+")", "LAYER", "answers a ping")
}
