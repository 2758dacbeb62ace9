// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// weave refuses options and values that it does not know, and the docker command shows the reason.
func TestOptionsThatAreRefused(t *testing.T) {
	h := sharedHost(t)
	before := len(status(t, h).Warnings)
	for _, c := range []struct {
		name    string
		options []string // of `docker network create`
		want    []string // in the error
	}{
		{"unknown", []string{"-o", "works.weave.mtuu=1400"}, []string{"works.weave.mtuu", "1400", "works.weave.mtu"}},
		{"foreign", []string{"-o", "parent=eth0"}, []string{"parent", "eth0"}},
		{"mtu word", []string{"-o", "works.weave.mtu=big"}, []string{"works.weave.mtu", "big", "68..65535"}},
		{"mtu small", []string{"-o", "works.weave.mtu=67"}, []string{"works.weave.mtu", "67", "68..65535"}},
		{"mtu twice", []string{"-o", "works.weave.mtu=1400", "-o", "com.docker.network.driver.mtu=1300"},
			[]string{"works.weave.mtu", "com.docker.network.driver.mtu"}},
		{"mtu for IPv6", []string{"-o", "works.weave.mtu=1279", "--ipv6", "--subnet", "10.64.0.0/24",
			"--subnet", "fd64::/64"}, []string{"1279", "1280"}},
		{"multicast", []string{"-o", "works.weave.multicast=maybe"},
			[]string{"works.weave.multicast", "maybe", "yes or no"}},
		{"guard", []string{"-o", "works.weave.guard=on"}, []string{"works.weave.guard", "yes or no"}},
		{"binding", []string{"-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1"},
			[]string{"com.docker.network.bridge.host_binding_ipv4", "-p 127.0.0.1:80:80"}},
		{"isolation", []string{"-o", "com.docker.network.bridge.enable_icc=false"},
			[]string{"com.docker.network.bridge.enable_icc", "networks of their own"}},
		{"masquerade", []string{"--internal", "-o", "com.docker.network.bridge.enable_ip_masquerade=perhaps"},
			[]string{"com.docker.network.bridge.enable_ip_masquerade", "perhaps"}},
		{"gateway mode", []string{"-o", "com.docker.network.bridge.gateway_mode_ipv4=routed"},
			[]string{"com.docker.network.bridge.gateway_mode_ipv4", "works.weave.nat=no"}},
		{"nat", []string{"-o", "works.weave.nat=ipv5"}, []string{"works.weave.nat", "ipv5", "ipv4"}},
		{"nat of Docker's", []string{"-o", "works.weave.nat=no", "-o", "works.weave.gateway=docker"},
			[]string{"works.weave.nat", "works.weave.gateway=auto"}},
		{"host", []string{"-o", "works.weave.host=no", "--internal"},
			[]string{"works.weave.host", "leave the option out"}},
		{"gateway", []string{"-o", "works.weave.gateway=nowhere"}, []string{"works.weave.gateway", "nowhere", "auto"}},
		{"gateway elsewhere", []string{"-o", "works.weave.gateway=192.0.2.9", "--subnet", "10.64.0.0/24"},
			[]string{"works.weave.gateway", "in no subnet"}},
		{"gateway, internal", []string{"-o", "works.weave.gateway=native", "--internal"},
			[]string{"works.weave.gateway", "no way out"}},
		{"misspelt option of the bridge", []string{"-o", "com.docker.network.bridge.enable_ic=false"},
			[]string{"unknown option com.docker.network.bridge.enable_ic"}},
		{"bridge name", []string{"-o", "works.weave.bridge=a/b"}, []string{"works.weave.bridge", "a/b"}},
		{"bridge name too long", []string{"-o", "works.weave.bridge=sixteencharacter"},
			[]string{"works.weave.bridge", "15"}},
		{"bridge that is none", []string{"-o", "works.weave.bridge=lo"}, []string{"lo"}},
		{"ipam option", []string{"--ipam-driver", "weave", "--ipam-opt", "size=24"}, []string{"size"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			command := append([]string{"network", "create", "-d", "weave"}, c.options...)
			refused(t, h, append(command, "refused"), c.want...)
			if _, err := h.DockerErr("network", "inspect", "refused"); err == nil {
				h.Docker(t, "network", "rm", "refused")
			}
		})
	}
	if left := linksOf(t, h, "wv"); len(left) > 0 {
		t.Errorf("refused networks left %v", left)
	}
	s := status(t, h)
	if s.Networks != 0 || len(s.Warnings) != before {
		t.Errorf("after refusals: %d networks, warnings %v", s.Networks, s.Warnings)
	}
}

func TestDockersOwnOptionsPass(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "passed", "-o", "com.docker.network.something.new=1",
		"-o", "com.docker.network.bridge.enable_icc=true", "-o", "com.docker.network.bridge.enable_ip_masquerade=true",
		"-o", "com.docker.network.bridge.gateway_mode_ipv4=nat",
		"-o", "com.docker.network.bridge.host_binding_ipv4=0.0.0.0")
}

func TestInterfacePrefix(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app", "--internal", "-o", "com.docker.network.container_iface_prefix=net")
	id := h.Run(t, "--network", "app")
	h.Docker(t, "exec", id, "ip", "link", "show", "net0")
}

// A container is made a router by an option of its endpoint, which weave's record has.
func TestRouterOption(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app", "--internal", "-o", "works.weave.guard")
	h.Run(t, "--network", "none", "--name", "router")
	h.Docker(t, "network", "disconnect", "none", "router")
	h.Docker(t, "network", "connect", "--driver-opt", "works.weave.router=true", "app", "router")
	h.Exec(t, "sh", "-c", `grep -aq '"router":true' /run/weave/endpoints-*.db`)
}

func TestEndpointOptionIsRefused(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app", "--internal")
	h.Run(t, "--network", "none", "--name", "idle")
	h.Docker(t, "network", "disconnect", "none", "idle")
	refused(t, h, []string{"network", "connect", "--driver-opt", "colour=red", "app", "idle"}, "colour", "red",
		"works.weave.router")
	const ifname = "com.docker.network.endpoint.ifname=lan"
	refused(t, h, []string{"network", "connect", "--driver-opt", ifname, "app", "idle"},
		"com.docker.network.endpoint.ifname", "lan", "container_iface_prefix")
	if found := endpoints(t, h, api.Query{}); len(found) > 0 {
		t.Errorf("a refused endpoint is listed: %+v", found)
	}
	awaitNoEndpoints(t, h)
}

// If the plugin crashes during a call, Docker repeats the call with an empty body. Such a call must not have an effect.
func TestEmptyRequests(t *testing.T) {
	h := sharedHost(t)
	for _, call := range []string{
		"NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.Join",
		"NetworkDriver.DeleteNetwork", "IpamDriver.RequestPool", "IpamDriver.RequestAddress",
	} {
		for _, body := range []string{"", "{}", "[]", "{\"NetworkID\":\"../../etc\"}"} {
			out := h.Exec(t, "curl", "-s", "-w", "\n%{http_code}", "--unix-socket", lab.PluginSocket,
				"-d", body, "http://weave/"+call)
			if call == "IpamDriver.RequestPool" && body != "" && body != "[]" {
				continue // a request for a pool of the address space without a name, which may or may not be refused
			}
			if strings.HasSuffix(out, "\n200") {
				t.Errorf("%s with the body %q: %s", call, body, out)
			}
		}
	}
	if s := status(t, h); s.Networks != 0 || s.Endpoints != (api.EndpointCounts{}) {
		t.Errorf("after empty requests: %+v", s)
	}
}

func TestCommandLineThatIsRefused(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app", "--internal")
	h.Run(t, "--network", "app") // weave executes a template only for endpoints
	for _, c := range []struct {
		command []string
		want    []string
	}{
		{[]string{"serve", "--mtu", "1"}, []string{"--mtu", `"1"`, "68..65535"}},
		{[]string{"serve", "--scope", "swarm"}, []string{"--scope", "swarm", "local or global"}},
		{[]string{"serve", "--range", "10.32.0.1/12"}, []string{"--range", "10.32.0.1/12"}},
		{[]string{"serve", "--plugin-socket", "/run/second.sock", "--api-socket", "/run/second-api.sock"},
			[]string{"/var/lib/weave/weave.db", "in use"}},
		{[]string{"ps", "--live=guess"}, []string{"guess", "kernel", "nsproc"}},
		{[]string{"ps", "--format", "{{.Colour}}"}, []string{"Colour"}},
		{[]string{"ps", "--network", "nowhere"}, []string{"nowhere"}},
		{[]string{"ps", "--socket", "/run/nobody.sock"}, []string{"/run/nobody.sock", "not running"}},
	} {
		t.Run(strings.Join(c.command, " "), func(t *testing.T) {
			_, err := h.WeaveErr(c.command...)
			if err == nil {
				t.Fatal("not refused")
			}
			want(t, err.Error(), c.want...)
		})
	}
}

// TestDefaultNetworkOptions: what Docker's configuration has for networks of the bridge driver does not come to weave;
// what it has for weave's counts as if it were typed, and what is typed goes before.
func TestDefaultNetworkOptions(t *testing.T) {
	version := sharedHost(t).Docker(t, "version", "-f", "{{.Server.Version}}")
	if major, _, _ := strings.Cut(version, "."); len(major) < 2 || major < "26" {
		t.Skip("Docker has default network options from version 26 on")
	}
	const binding = "com.docker.network.bridge.host_binding_ipv4"
	h := lab.Start(t, lab.Options{Name: "defaults", DockerArgs: []string{
		"--default-network-opt", "bridge=com.docker.network.bridge.enable_icc=false",
		"--default-network-opt", "weave=com.docker.network.driver.mtu=1400",
		"--default-network-opt", "weave=" + binding + "=127.0.0.1",
	}})
	h.StartPlugin(t)
	weaveNetwork(t, h, "typed", "-o", binding+"=0.0.0.0")
	refused(t, h, []string{"network", "create", "-d", "weave", "untyped"}, binding, "-p 127.0.0.1:80:80")
	out, err := h.WeaveErr("networks")
	if err != nil {
		t.Fatal(err)
	}
	want(t, out, "1400")
}
