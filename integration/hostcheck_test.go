// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/integration/troubles"
)

// faultyHost is a host on which faults are caused, with the networks and endpoints that they are about.
type faultyHost struct {
	*lab.Host
	out, kept, obeys api.Network  // with a gateway, without NAT, and with works.weave.firewall=host
	ada, bob         api.Endpoint // of two containers on out
}

// hostFault is a way to bring a trouble of the host about.
type hostFault struct {
	result      api.CheckResult
	cause, mend func()
}

// TestCheckHost: on a host that is in order weave check finds nothing, and it names each trouble that is caused for
// real.
func TestCheckHost(t *testing.T) {
	h := startFaulty(t)
	lab.Eventually(t, time.Minute, "a host in order", func() error {
		c, status := h.check(t)
		for _, f := range c.Findings {
			if f.Result == api.CheckFailed || f.Result == api.CheckWarning {
				return fmt.Errorf("%+v", f)
			}
		}
		if status != 0 || c.Failed != 0 {
			return fmt.Errorf("status %d, %d failed", status, c.Failed)
		}
		return nil
	})
	causeEach(t, troubles.Host, h.faults(t), func(t *testing.T, trouble troubles.Trouble, f hostFault) {
		defer f.mend()
		f.cause()
		lab.Eventually(t, time.Minute, "the verdict", func() error { return h.expect(t, trouble, f.result) })
	})
	if warnings := status(t, h.Host).Warnings; len(warnings) > 0 {
		t.Errorf("all is mended, and weave warns: %q", warnings)
	}
}

// startFaulty starts the host.
func startFaulty(t *testing.T) faultyHost {
	host, _ := startHost(t, "faulty", "--docker-interval=10m") // so that what Docker has forgotten stays
	h := faultyHost{Host: host}
	weaveNetwork(t, host, "out", "--subnet", "10.55.0.0/24")
	weaveNetwork(t, host, "kept", "--subnet", "10.55.1.0/24", "-o", "works.weave.nat=no")
	weaveNetwork(t, host, "obeys", "--subnet", "10.55.2.0/24", "-o", "works.weave.firewall=host", "--internal")
	weaveNetwork(t, host, "full", "--subnet", "10.55.3.0/24")
	host.Run(t, "--network", "out", "--name", "ada")
	host.Run(t, "--network", "out", "--name", "bob")
	awaitEndpoints(t, host, 2)
	for _, e := range endpoints(t, host, api.Query{}) {
		switch e.ContainerName {
		case "ada":
			h.ada = e
		case "bob":
			h.bob = e
		}
	}
	h.shell(t, "ip link add uplink type bridge", "ip link set uplink up", "ip address add 192.0.2.2/24 dev uplink",
		"ip route replace default via 192.0.2.1 dev uplink")()
	h.out, h.kept, h.obeys = h.network(t, "out"), h.network(t, "kept"), h.network(t, "obeys")
	return h
}

// network returns the network of that name.
func (h faultyHost) network(t *testing.T, name string) api.Network {
	t.Helper()
	all, err := api.NewClient(h.Path(lab.APISocket)).Networks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(n api.Network) bool { return n.Name == name })
	if i < 0 {
		t.Fatalf("no network %s in %+v", name, all)
	}
	return all[i]
}

// check returns what weave check says, and its exit status.
func (h faultyHost) check(t *testing.T) (c api.HostCheck, status int) {
	t.Helper()
	out, err := h.Command(t.Context(), lab.Weave, "check", "--format", "json").Output()
	if jsonErr := json.Unmarshal(out, &c); jsonErr != nil {
		t.Fatalf("%v: %s (%v)", jsonErr, out, err)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		status = exit.ExitCode()
	}
	return c, status
}

// expect returns an error unless weave check names the trouble, and fails because of it alone if it is a failure.
func (h faultyHost) expect(t *testing.T, trouble troubles.Trouble, result api.CheckResult) error {
	c, status := h.check(t)
	wanted := map[api.CheckResult]int{api.CheckFailed: 30}[result]
	if status != wanted {
		return fmt.Errorf("exit status %d, want %d: %+v", status, wanted, c.Findings)
	}
	for _, f := range c.Findings {
		if string(f.Part) == trouble.Verdict && f.Result == result && strings.Contains(f.Evidence, trouble.Evidence) &&
			f.Advice != "" {
			return nil
		}
	}
	return fmt.Errorf("want %s %s with %q: %+v", trouble.Verdict, result, trouble.Evidence, c.Findings)
}

// shell returns what runs commands on the host.
func (h faultyHost) shell(t *testing.T, commands ...string) func() {
	return func() {
		t.Helper()
		h.Exec(t, "sh", "-ec", strings.Join(commands, "\n"))
	}
}

// inside returns what runs a command in the namespace of an endpoint's container.
func (h faultyHost) inside(t *testing.T, e api.Endpoint, command string) func() {
	return h.shell(t, "nsenter --net="+e.Sandbox+" "+command)
}

// call returns what makes a call about an endpoint of the network out, as Docker does.
func (h faultyHost) call(t *testing.T, name, id string) func() {
	return func() {
		t.Helper()
		request := map[string]any{
			"NetworkID": h.out.ID, "EndpointID": id, "Interface": map[string]string{"Address": "10.55.0.77/24"},
		}
		if err := h.Caller().Call(t.Context(), name, request, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// faults are the ways to bring the troubles about, by their names.
func (h faultyHost) faults(t *testing.T) map[string]hostFault {
	bobs := netip.PrefixFrom(h.bob.Addresses[0].Addr(), 24).String()
	forgotten, full := lab.NewID(), h.network(t, "full").Bridge
	return map[string]hostFault{
		"a rule drops what leaves networks": {
			api.CheckFailed, h.shell(t, "iptables -I FORWARD -j DROP"), h.shell(t, "iptables -D FORWARD -j DROP"),
		},
		"a table of nftables drops what it does not know": {
			api.CheckFailed, h.shell(t, "nft -f - <<END", "table inet mine {", "chain forward {",
				"type filter hook forward priority filter; policy drop;", "ct state established,related accept",
				"}", "}", "END"),
			h.shell(t, "nft delete table inet mine"),
		},
		"a rule drops frames inside a network": {
			api.CheckWarning, h.shell(t, "iptables -I FORWARD -i "+h.obeys.Bridge+" -j DROP"),
			h.shell(t, "iptables -D FORWARD -i "+h.obeys.Bridge+" -j DROP"),
		},
		"a rule of others translates": {
			api.CheckFailed, h.shell(t, "iptables -t nat -A POSTROUTING -o uplink -j MASQUERADE"),
			h.shell(t, "iptables -t nat -D POSTROUTING -o uplink -j MASQUERADE"),
		},
		"an address is there twice": {
			api.CheckFailed, h.inside(t, h.ada, "ip address add "+bobs+" dev eth0"),
			h.inside(t, h.ada, "ip address del "+bobs+" dev eth0"),
		},
		"a container has set its link down": {
			api.CheckFailed, h.inside(t, h.bob, "ip link set eth0 down"), h.inside(t, h.bob, "ip link set eth0 up"),
		},
		"a route of a VPN leads into a subnet": {
			api.CheckFailed, h.shell(t, "ip route add 10.55.0.128/25 dev uplink"),
			h.shell(t, "ip route del 10.55.0.128/25 dev uplink"),
		},
		// All network namespaces share the table: so it is that of IPv6, which few others use, and not full.
		"the table of neighbours is nearly full": {
			api.CheckWarning,
			h.shell(t, "ip link add many type bridge", "ip link set many up", "for i in $(seq 1 850); do",
				"echo neighbour add fd55::$i lladdr 02:00:00:00:00:01 dev many nud reachable", "done | ip -batch -"),
			h.shell(t, "ip link del many"),
		},
		"a bridge is nearly full": {
			api.CheckWarning,
			h.shell(t, "for i in $(seq 1 415); do", "echo link add a$i type veth peer name b$i",
				"echo link set a$i master "+full, "echo link set b$i master "+full, "done | ip -batch -"),
			h.shell(t, "for i in $(seq 1 415); do", "echo link del a$i", "done | ip -batch -"),
		},
		"Docker does not know an endpoint": {
			api.CheckWarning, h.call(t, "NetworkDriver.CreateEndpoint", forgotten),
			h.call(t, "NetworkDriver.DeleteEndpoint", forgotten),
		},
		"two ways out with a strict filter": {
			api.CheckWarning,
			h.shell(t, "ip link add second type bridge", "ip link set second up",
				"ip route add default dev second metric 500",
				"sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.second.rp_filter=1"),
			h.shell(t, "ip link del second"),
		},
	}
}
