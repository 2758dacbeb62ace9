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
	"github.com/weaveplugin/weave/integration/troubles"
)

// statuses are the exit statuses of weave check for the layers that fail.
var statuses = map[api.CheckLayer]int{
	"": 0, api.LayerFrom: 10, api.LayerRoute: 11, api.LayerTo: 12, api.LayerNeighbour: 13, api.LayerFirewall: 14,
	api.LayerListener: 15, api.LayerConnection: 16, api.LayerSize: 17,
}

// fault is a way to bring a trouble about.
type fault struct {
	check       string // the arguments of weave check
	cause, mend func() // nil: it is there from the beginning
}

// checkHost is a host with containers for weave check.
type checkHost struct {
	*lab.Host
	ada, bob api.Endpoint // of the containers that ask and answer
}

// TestCheck causes each trouble between containers for real, and has weave check name the layer.
func TestCheck(t *testing.T) {
	h := startChecked(t)
	faults := h.faults(t)
	for _, trouble := range troubles.Containers.Troubles {
		t.Run(trouble.Name, func(t *testing.T) {
			f, ok := faults[trouble.Name]
			if !ok {
				t.Fatal("it has no cause")
			}
			delete(faults, trouble.Name)
			if f.cause != nil {
				f.cause()
				defer f.mend()
			}
			h.expect(t, f.check, api.CheckLayer(trouble.Verdict), trouble.Evidence)
		})
	}
	for name := range faults {
		t.Errorf("%q is not in the list of troubles", name)
	}
	address := h.bob.Addresses[0].Addr().String()
	for _, args := range []string{"ada bob", "ada bob --port 80", "ada " + address + " --port 80"} {
		h.expect(t, args, "", "")
	}
	_, err := h.WeaveErr("check", "ada", "eve")
	if err == nil {
		t.Fatal("containers on different networks reach each other")
	}
	want(t, err.Error(), "ada and eve are on no network together (checked and elsewhere)", "docker network connect")
	want(t, h.Weave(t, "check", "ada", "bob"), "from ada to bob ("+address+")", "LAYER", "answers a ping")
}

// startChecked starts the containers.
func startChecked(t *testing.T) checkHost {
	h := checkHost{Host: sharedHost(t)}
	weaveNetwork(t, h.Host, "checked")
	weaveNetwork(t, h.Host, "elsewhere")
	start := func(name, network string, command ...string) api.Endpoint {
		h.RunCommand(t, []string{"--network", network, "--name", name}, command...)
		for _, e := range endpoints(t, h.Host, api.Query{Containers: []string{name}}) {
			return e
		}
		t.Fatalf("no endpoint of %s", name)
		return api.Endpoint{}
	}
	idle := []string{"sleep", "3600"}
	h.ada = start("ada", "checked", idle...)
	h.bob = start("bob", "checked", "httpd", "-f", "-p", "80")
	start("shy", "checked", "httpd", "-f", "-p", "127.0.0.1:80")
	start("idle", "checked", idle...)
	start("eve", "elsewhere", idle...)
	awaitEndpoints(t, h.Host, 5)
	return h
}

// expect has weave check asked, and fails t unless it names the layer, with the evidence. No layer: none fails.
func (h checkHost) expect(t *testing.T, args string, failed api.CheckLayer, evidence string) {
	t.Helper()
	out, err := h.Command(t.Context(), lab.Weave,
		append([]string{"check", "--format", "json"}, strings.Fields(args)...)...).Output()
	var c api.Check
	if err := json.Unmarshal(out, &c); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	status := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	}
	if c.Failed != failed || status != statuses[failed] {
		t.Errorf("check %s: failed %q, status %d, want %q: %+v", args, c.Failed, status, failed, c.Layers)
	}
	for _, l := range c.Layers {
		if l.Layer == failed && !strings.Contains(l.Evidence, evidence) {
			t.Errorf("check %s: evidence %q, want %q", args, l.Evidence, evidence)
		}
	}
}

// inside returns what runs commands, of which {ada} and {bob} are addresses, in the namespace of a container.
func (h checkHost) inside(t *testing.T, e api.Endpoint, commands ...string) func() {
	return func() {
		t.Helper()
		for _, c := range commands {
			for name, e := range map[string]api.Endpoint{"{ada}": h.ada, "{bob}": h.bob} {
				c = strings.ReplaceAll(c, name, e.Addresses[0].Addr().String())
			}
			h.Exec(t, "nsenter", "--net="+e.Sandbox, "sh", "-ec", c)
		}
	}
}

// faults are the ways to bring the troubles about, by their names.
func (h checkHost) faults(t *testing.T) map[string]fault {
	ada := func(commands ...string) func() { return h.inside(t, h.ada, commands...) }
	bob := func(commands ...string) func() { return h.inside(t, h.bob, commands...) }
	return map[string]fault{
		"nobody listens":          {check: "ada idle --port 80"},
		"it listens at 127.0.0.1": {check: "ada shy --port 80"},
		"the sender has lost its address": {
			"ada bob", ada("ip address flush dev eth0"),
			ada("ip address add " + h.ada.Addresses[0].String() + " dev eth0"),
		},
		"another route wins": {
			"ada bob", ada("ip route add {bob}/32 dev lo"), ada("ip route del {bob}/32 dev lo"),
		},
		"the receiver is down": {
			"ada bob --port 80", bob("ip link set eth0 down"), bob("ip link set eth0 up"),
		},
		"a stale neighbour": {
			"ada bob --port 80",
			ada("ip neighbour replace {bob} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"),
			ada("ip neighbour del {bob} dev eth0"),
		},
		"the receiver answers no ARP": {
			"ada bob --port 80",
			func() { bob("ip link set eth0 arp off")(); ada("ip neighbour flush dev eth0")() },
			bob("ip link set eth0 arp on"),
		},
		"a small MTU": {
			"ada bob --port 80", bob("ip link set eth0 mtu 1000"), bob("ip link set eth0 mtu 1500"),
		},
		"a firewall in the container refuses": {
			"ada bob --port 80", bob("iptables -A INPUT -p tcp --dport 80 -j REJECT --reject-with tcp-reset"),
			bob("iptables -F INPUT"),
		},
	}
}
