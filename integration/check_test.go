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
	api.LayerListener: 15, api.LayerConnection: 16, api.LayerSize: 17, api.LayerName: 18, api.LayerBack: 19,
	api.LayerBridge: 20,
}

// pairFault is a way to bring a trouble about.
type pairFault struct {
	check       string // the arguments of weave check
	cause, mend script // nil: it is there from the beginning
}

// script runs commands. It fails t if one of them fails.
type script func(t *testing.T)

// checkHost is a host with containers for weave check.
type checkHost struct {
	*lab.Host
	at map[string]api.Endpoint // the containers' endpoints, by name
}

// TestCheck causes each trouble between containers for real, and has weave check name the layer.
func TestCheck(t *testing.T) {
	h := startChecked(t)
	causeEach(t, troubles.Containers, h.faults(), func(t *testing.T, trouble troubles.Trouble, f pairFault) {
		if f.cause != nil {
			f.cause(t)
			defer f.mend(t)
		}
		h.expect(t, f.check, api.CheckLayer(trouble.Verdict), trouble.Evidence, trouble.Kernel)
	})
	address := h.at["bob"].Addresses[0].Addr().String()
	for _, args := range []string{
		"ada bob", "ada bob --port 80", "ada " + address + " --port 80", "hal ham --port 80", "shy idle",
	} {
		h.expect(t, args, "")
	}
	_, err := h.WeaveErr("check", "ada", "eve")
	if err == nil {
		t.Fatal("containers on different networks reach each other")
	}
	want(t, err.Error(), "ada and eve are on no network together (checked and elsewhere)", "docker network connect")
	want(t, h.Weave(t, "check", "ada", "bob"), "from ada to bob ("+address+")", "LAYER", "answers a ping")
	h.checkAll(t)
}

// causeEach runs a test for each trouble of a list with the fault, by its name, that brings it about. It fails t for
// one without a fault, and for a fault of none.
func causeEach[F any](
	t *testing.T, list troubles.List, faults map[string]F, test func(*testing.T, troubles.Trouble, F),
) {
	for _, trouble := range list.Troubles {
		t.Run(trouble.Name, func(t *testing.T) {
			f, ok := faults[trouble.Name]
			if !ok {
				t.Fatal("it has no cause")
			}
			delete(faults, trouble.Name)
			test(t, trouble, f)
		})
	}
	for name := range faults {
		t.Errorf("%q is not in the list of troubles", name)
	}
}

// checkAll checks all pairs: those are listed that fail.
func (h checkHost) checkAll(t *testing.T) {
	want(t, h.Weave(t, "check", "--all"), "0 of 14 pairs fail")
	want(t, h.Weave(t, "check", "--all", "--network", "ruled", "--network", "inner"), "0 of 2 pairs fail")
	h.inside("idle", "ip link set eth0 down")(t)
	defer h.inside("idle", "ip link set eth0 up")(t)
	var m struct {
		Pairs   []api.PairCheck
		Summary api.CheckSummary
	}
	out, _ := h.Command(t.Context(), lab.Weave, "check", "--all", "--format", "json").Output()
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if m.Summary != (api.CheckSummary{Checked: 14, Failed: 6}) || len(m.Pairs) != 14 {
		t.Errorf("%d pairs, %+v, want 14, of which the 6 from and to idle fail", len(m.Pairs), m.Summary)
	}
	for _, p := range m.Pairs {
		wanted := api.CheckLayer("")
		switch "idle" {
		case p.From:
			wanted = api.LayerFrom
		case p.To:
			wanted = api.LayerTo
		}
		if p.Check.Failed != wanted {
			t.Errorf("%s to %s: failed %q, want %q", p.From, p.To, p.Check.Failed, wanted)
		}
	}
	_, err := h.WeaveErr("check", "--all", "--network", "checked")
	if err == nil {
		t.Fatal("no pair fails")
	}
	want(t, err.Error(), "6 of 12 pairs fail; ada to idle: to: idle: eth0 down in the container")
}

// startChecked starts the containers.
func startChecked(t *testing.T) checkHost {
	h := checkHost{sharedHost(t), map[string]api.Endpoint{}}
	const filter = "net.bridge.bridge-nf-call-iptables"
	was := h.Exec(t, "sysctl", "-n", filter)
	h.Exec(t, "sysctl", "-qw", filter+"=1")
	t.Cleanup(func() { h.Exec(t, "sysctl", "-qw", filter+"="+strings.TrimSpace(was)) })
	weaveNetwork(t, h.Host, "checked")
	weaveNetwork(t, h.Host, "elsewhere")
	weaveNetwork(t, h.Host, "inner", "--internal")
	weaveNetwork(t, h.Host, "ruled", "-o", "works.weave.firewall=host")
	start := func(name, network string, command ...string) {
		h.RunCommand(t, []string{"--network", network, "--name", name}, command...)
	}
	idle := []string{"sleep", "3600"}
	server := []string{"httpd", "-f", "-p", "80"}
	start("ada", "checked", idle...)
	start("bob", "checked", server...)
	start("shy", "checked", "httpd", "-f", "-p", "127.0.0.1:80")
	start("idle", "checked", idle...)
	start("eve", "elsewhere", idle...)
	start("ina", "inner", idle...)
	start("hal", "ruled", idle...)
	start("ham", "ruled", server...)
	for _, e := range awaitEndpoints(t, h.Host, 8) {
		h.at[e.ContainerName] = e
	}
	return h
}

// expect has weave check asked, and fails t unless it names the layer, with all of the evidence. No layer: none fails.
func (h checkHost) expect(t *testing.T, args string, failed api.CheckLayer, evidence ...string) {
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
		if l.Layer == failed {
			want(t, l.Evidence, evidence...)
		}
	}
}

// inside returns what runs commands in the namespace of a container; of none: on the host. In them {ada} stands for the
// address of a container, {ada.prefix} for that with the length of its subnet, {ada.mac} for its MAC, {ada.end} for its
// host end and {ada.bridge} for its bridge.
func (h checkHost) inside(name string, commands ...string) script {
	return func(t *testing.T) {
		t.Helper()
		var pairs []string
		for name, e := range h.at {
			a := e.Addresses[0]
			pairs = append(pairs, "{"+name+"}", a.Addr().String(), "{"+name+".prefix}", a.String(),
				"{"+name+".mac}", e.MAC, "{"+name+".end}", e.HostEnd, "{"+name+".bridge}", e.Bridge)
		}
		script := strings.NewReplacer(pairs...).Replace(strings.Join(commands, "\n"))
		args := []string{"sh", "-exc", script}
		if name != "" {
			args = append([]string{"nsenter", "--net=" + h.at[name].Sandbox}, args...)
		}
		h.Exec(t, args[0], args[1:]...)
	}
}
