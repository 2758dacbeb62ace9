// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// gatewayNetwork creates a weave network with a gateway of its own, of both families.
func gatewayNetwork(t *testing.T, h *lab.Host, name string, n int, options ...string) {
	t.Helper()
	weaveNetwork(t, h, name, append([]string{"-o", "works.weave.gateway=native", "--ipv6",
		"--subnet", fmt.Sprintf("10.91.%d.0/24", n), "--subnet", fmt.Sprintf("fd91:0:0:%d::/64", n)}, options...)...)
}

// A container on a network with a gateway of its own has one interface, and its way out is the network's gateway.
func TestOwnGateway(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "gateway", Underlay: lab.NewUnderlay(t, outside), Address: sharedAddress})
	p := h.StartPlugin(t)
	gatewayNetwork(t, h, "out", 1)
	h.Run(t, "--network", "out", "--name", "client")
	want(t, h.Docker(t, "exec", "client", "ip", "route"), "default via 10.91.1.1 dev eth0")
	want(t, h.Docker(t, "exec", "client", "ip", "-6", "route"), "default via fd91:0:0:1::1 dev eth0")
	if links := h.Docker(t, "exec", "client", "ls", "/sys/class/net"); strings.Contains(links, "eth1") {
		t.Errorf("the container has the interfaces %s", links)
	}
	want(t, h.Docker(t, "network", "inspect", "out"), `"IPv4Address": "10.91.1.2/24"`)
	ping(t, h, "client", outside.Addr().String())

	gatewayNetwork(t, h, "other", 2)
	h.Run(t, "--network", "other", "--name", "neighbour")
	h.Docker(t, "network", "create", "dockers")
	h.Run(t, "--network", "dockers", "--name", "stranger")
	for _, pair := range [][2]string{{"client", "neighbour"}, {"client", "stranger"}, {"stranger", "client"}} {
		noPing(t, h, pair[0], addressOf(t, h, pair[1], "eth0"))
	}

	p.Kill()
	ping(t, h, "client", outside.Addr().String())
	p.Restart(t)
	h.Exec(t, "sh", "-c", "iptables -w -F FORWARD && iptables -w -t nat -F && ip6tables -w -F FORWARD")
	lab.Eventually(t, 10*time.Second, "the way out after the rules were flushed", func() error {
		return pingErr(h, "client", outside.Addr().String())
	})
	h.Docker(t, "rm", "-f", "client", "neighbour", "stranger")
	h.Docker(t, "network", "rm", "dockers")
}

// A port is published or refused, whatever the order in which a container is connected: never silently dead.
func TestPortsBesideAnOwnGateway(t *testing.T) {
	h := sharedHost(t)
	gatewayNetwork(t, h, "out", 3)
	weaveNetwork(t, h, "app")
	if out, err := h.DockerErr("run", "--rm", "--network", "out", "-p", "8081:80", lab.Image, "true"); err == nil ||
		!strings.Contains(out+err.Error(), "works.weave.gateway=auto") {
		t.Errorf("a published port on a network with a gateway of its own: %v, %s", err, out)
	}
	h.RunCommand(t, []string{"--network", "app", "--name", "web", "-p", "8081:80"}, "httpd", "-f", "-h", "/www")
	page := func() error {
		out, err := h.ExecErr("curl", "-sS", "--max-time", "5", "http://127.0.0.1:8081/")
		if err == nil && out+"\n" != lab.Page {
			err = fmt.Errorf("got %q", out)
		}
		return err
	}
	lab.Eventually(t, 10*time.Second, "the page", page)
	if out, err := h.DockerErr("network", "connect", "out", "web"); err == nil {
		t.Errorf("a container with a published port was connected: %s", out)
	}
	lab.Eventually(t, 10*time.Second, "the page after the refusal", page)

	gatewayNetwork(t, h, "both", 4, "-o", "works.weave.gateway=auto")
	gatewayNetwork(t, h, "more", 5, "-o", "works.weave.gateway=auto")
	h.RunCommand(t, []string{"--network", "both", "--name", "site", "-p", "8082:80"}, "httpd", "-f", "-h", "/www")
	want(t, h.Docker(t, "port", "site"), "80/tcp -> 0.0.0.0:8082")
	want(t, h.Docker(t, "exec", "site", "ip", "route"), "dev eth1")
	ping(t, h, "site", outside.Addr().String())
	h.Docker(t, "network", "connect", "more", "site")
	want(t, h.Docker(t, "port", "site"), "80/tcp -> 0.0.0.0:8082")

	h.Run(t, "--network", "app", "--name", "client")
	h.Docker(t, "network", "connect", "out", "client")
	ping(t, h, "client", outside.Addr().String())
	want(t, h.Docker(t, "exec", "client", "ip", "route"), "default via 10.91.3.1")
	h.Docker(t, "network", "disconnect", "out", "client")
	ping(t, h, "client", outside.Addr().String())
	h.Docker(t, "network", "connect", "out", "client")
	h.Docker(t, "network", "disconnect", "app", "client")
	ping(t, h, "client", outside.Addr().String())
}

// TestNetworksMTUBesidePorts: what a container with ports sends over docker_gwbridge has the network's MTU, whatever it
// is connected to later, and IPv6 goes by the network's own gateway.
func TestNetworksMTUBesidePorts(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "mtu", Underlay: lab.NewUnderlay(t, outside), Address: sharedAddress})
	p := h.StartPlugin(t)
	gatewayNetwork(t, h, "small", 8, "-o", "works.weave.gateway=auto", "-o", "works.weave.mtu=1400")
	h.RunCommand(t, []string{"--network", "small", "--name", "site", "-p", "8083:80"}, "httpd", "-f", "-h", "/www")
	pid := strings.TrimSpace(h.Docker(t, "inspect", "-f", "{{.State.Pid}}", "site"))
	defaultRoute := func() string { return h.Exec(t, "nsenter", "-n", "-t", pid, "ip", "route", "show", "default") }
	limited := func(when string) {
		t.Helper()
		lab.Eventually(t, 10*time.Second, "the MTU of the way out "+when, func() error {
			routes := defaultRoute()
			if !strings.Contains(routes, "mtu 1400") {
				return fmt.Errorf("routes:\n%s", routes)
			}
			return nil
		})
	}
	limited("at the start")
	lab.Eventually(t, 10*time.Second, "a way out by IPv6", func() error {
		routes := h.Docker(t, "exec", "site", "ip", "-6", "route")
		if !strings.Contains(routes, "default via fd91:0:0:8::1 dev eth0") {
			return fmt.Errorf("routes:\n%s", routes)
		}
		return nil
	})
	want(t, h.Weave(t, "ps", "site"), "docker fd91:0:0:8::1")
	ping(t, h, "site", outside.Addr().String())
	h.CreateNetwork(t, "dockers")
	h.Docker(t, "network", "connect", "dockers", "site")
	if routes := defaultRoute(); strings.Contains(routes, "mtu") {
		t.Errorf("the way out over a network of Docker's is limited: %s", routes)
	}
	h.Docker(t, "network", "disconnect", "dockers", "site")
	limited("when it has come back")
	h.Docker(t, "network", "connect", "dockers", "site")
	p.Kill()
	h.Docker(t, "network", "disconnect", "dockers", "site")
	p.Restart(t)
	limited("when it has come back while weave was away")

	h.Run(t, "--network", "bridge", "--name", "late", "-p", "8084:80")
	h.Docker(t, "network", "disconnect", "bridge", "late")
	weaveNetwork(t, h, "large")
	h.Docker(t, "network", "connect", "large", "late")
	pid = strings.TrimSpace(h.Docker(t, "inspect", "-f", "{{.State.Pid}}", "late"))
	h.Docker(t, "network", "connect", "small", "late")
	limited("of a container that had it before")
	h.Docker(t, "rm", "-f", "site", "late")
}
