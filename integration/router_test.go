// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/integration/lab"
)

// startRouter starts a container that is the router of a network and translates what leaves it.
func startRouter(t *testing.T, h *lab.Host, name, network string, options ...string) {
	t.Helper()
	h.Run(t, append([]string{"--name", name, "--network", "name=" + network + ",driver-opt=works.weave.router=true"},
		options...)...)
	translate(t, h, name)
}

// translate has a container route packets out of the network of its eth0, with the address of its way out.
func translate(t *testing.T, h *lab.Host, container string) {
	t.Helper()
	pid := strings.TrimSpace(h.Docker(t, "inspect", "-f", "{{.State.Pid}}", container))
	h.Exec(t, "nsenter", "-n", "-t", pid, "sh", "-c", "iptables -t nat -A POSTROUTING ! -o eth0 -j MASQUERADE && "+
		"ip6tables -t nat -A POSTROUTING ! -o eth0 -j MASQUERADE && "+
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
}

// TestContainerAsRouter: what leaves the network goes by a container, whichever has that part now, and else nowhere.
func TestContainerAsRouter(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{Name: "router", Underlay: lab.NewUnderlay(t, outside), Address: sharedAddress})
	p := h.StartPlugin(t)
	weaveNetwork(t, h, "app", "-o", "works.weave.gateway=container:vpn")
	h.Run(t, "--network", "app", "--name", "client")
	h.Run(t, "--network", "app", "--name", "neighbour")
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "client", "neighbour", "vpn") })
	noPing(t, h, "client", outside.Addr().String())
	wayOutOf := func(container string) string {
		found := endpoints(t, h, api.Query{Containers: []string{container}})
		if len(found) != 1 {
			t.Fatalf("%s has %d endpoints", container, len(found))
		}
		return found[0].Gateway
	}
	reaches := func(when string) {
		t.Helper()
		lab.Eventually(t, 10*time.Second, "the outside "+when, func() error {
			return pingErr(h, "client", outside.Addr().String())
		})
	}
	for i, options := range [][]string{nil, {"-p", "8090:80"}} {
		startRouter(t, h, "vpn", "app", options...)
		reaches(fmt.Sprintf("by router %d", i))
		ping(t, h, "client", "vpn")
		ping(t, h, "client", "neighbour")
		awaitEndpoints(t, h, 3)
		if got := wayOutOf("vpn"); got != "docker" {
			t.Errorf("the router's way out is %q", got)
		}
		if got, want := wayOutOf("client"), attachmentOf(t, h, "client", "app").Gateway; got != want || got == "" {
			t.Errorf("the client's way out is %q, want %q", got, want)
		}
		h.Docker(t, "stop", "-t", "0", "vpn")
		noPing(t, h, "client", outside.Addr().String())
		ping(t, h, "client", "neighbour") // names are resolved
		h.Docker(t, "start", "vpn")
		translate(t, h, "vpn")
		reaches("by the router started again")
		p.Kill()
		reaches("while weave is away")
		p.Restart(t)
		reaches("with a new weave")
		h.Docker(t, "rm", "-f", "vpn")
		noPing(t, h, "client", outside.Addr().String())
	}
	refused(t, h, []string{"run", "--rm", "--network", "app", "-p", "8091:80", lab.Image, "true"}, "publishes ports")
}

// TestRouterOfTheLAN: on a bridge of the user's the LAN's router is the way out, and the LAN reaches the containers.
func TestRouterOfTheLAN(t *testing.T) {
	t.Parallel()
	under := lab.NewUnderlay(t, outside)
	h := lab.Start(t, lab.Options{Name: "lan", Underlay: under, Address: sharedAddress})
	h.StartPlugin(t)
	// The host's interface becomes a port of the bridge, which takes over its address.
	h.Exec(t, "ip", "link", "add", "br0", "type", "bridge")
	h.Exec(t, "sh", "-c", "ip link set br0 up && ip address flush dev eth0 && ip link set eth0 master br0 && "+
		"ip address add "+sharedAddress.String()+" dev br0")
	lan := []string{"-o", "works.weave.bridge=br0",
		"--subnet", outside.Masked().String(), "--ip-range", "192.0.2.128/25", "--gateway", outside.Addr().String(),
		"--aux-address", "host=" + sharedAddress.Addr().String()}
	if !announced(t, h) { // before Docker 28 nothing tells that the gateway was typed
		lan = append(lan, "-o", "works.weave.gateway="+outside.Addr().String())
	}
	weaveNetwork(t, h, "lan", lan...)
	h.Run(t, "--network", "lan", "--name", "member")
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "member") })
	want(t, h.Docker(t, "exec", "member", "ip", "route"), "default via "+outside.Addr().String()+" dev eth0")
	if links := h.Docker(t, "exec", "member", "ls", "/sys/class/net"); strings.Contains(links, "eth1") {
		t.Errorf("the container has the interfaces %s", links)
	}
	ping(t, h, "member", outside.Addr().String())
	ping(t, h, "member", sharedAddress.Addr().String())
	answerAll(t, sandboxOf(t, h, "member"))
	for place, namespace := range map[string]string{"LAN": under.Path(), "host": hostNamespace(h)} {
		reachesAll(t, "a container from the "+place, namespace, attachmentOf(t, h, "member", "lan").IPAddress)
	}
	want(t, h.Weave(t, "networks"), outside.Addr().String(), "foreign bridge")
	if got := h.Exec(t, "ip", "-4", "-o", "address", "show", "dev", "br0"); strings.Count(got, "inet") != 1 {
		t.Errorf("weave has put an address on br0: %s", got)
	}
}

// announced reports whether the host's Docker announces addresses, as from 28 on, and so asks about gateways, too.
func announced(t *testing.T, h *lab.Host) bool {
	t.Helper()
	return dockerMajor(t, h) >= 28
}

// dockerMajor returns the first number of the version of the host's Docker.
func dockerMajor(t *testing.T, h *lab.Host) int {
	t.Helper()
	version := h.Docker(t, "version", "-f", "{{.Server.Version}}")
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		t.Fatalf("version %q: %v", version, err)
	}
	return n
}

// TestWithoutNATAndHost: works.weave.nat=no keeps the containers' addresses, and works.weave.host=no the host away.
func TestWithoutNATAndHost(t *testing.T) {
	t.Parallel()
	under := lab.NewUnderlay(t, outside)
	h := lab.Start(t, lab.Options{Name: "routed", Underlay: under, Address: sharedAddress})
	h.StartPlugin(t, "--accept-fwmark", "0x4")
	gatewayNetwork(t, h, "routed", 6, "-o", "works.weave.nat=no", "-o", "works.weave.host=no")
	gatewayNetwork(t, h, "plain", 7)
	h.Run(t, "--network", "routed", "--name", "member")
	h.Run(t, "--network", "plain", "--name", "other")
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "member", "other") })
	want(t, h.Weave(t, "networks"), "no NAT, host apart")
	noPing(t, h, "member", outside.Addr().String()) // nothing leads back
	under.Exec(t, "ip", "route", "replace", "10.91.6.0/24", "via", sharedAddress.Addr().String())
	ping(t, h, "member", outside.Addr().String())
	noPing(t, h, "member", sharedAddress.Addr().String())
	noPing(t, h, "member", attachmentOf(t, h, "other", "plain").Gateway)
	ping(t, h, "other", sharedAddress.Addr().String())

	address := attachmentOf(t, h, "member", "routed").IPAddress
	fromOutside := func() error {
		return under.Command(t.Context(), "ping", "-c1", "-W2", address).Run()
	}
	if fromOutside() == nil {
		t.Errorf("from outside %s is reached", address)
	}
	h.Exec(t, "iptables", "-w", "-t", "mangle", "-A", "PREROUTING", "-i", "eth0", "-d", "10.91.6.0/24", "-j", "MARK",
		"--set-mark", "4")
	h.Exec(t, "iptables", "-w", "-I", "FORWARD", "-m", "mark", "--mark", "4", "-j", "ACCEPT")
	if err := fromOutside(); err != nil {
		t.Errorf("from outside %s is not reached with the mark: %v", address, err)
	}
}

// TestWayOutSurvives: what a container sends to the outside arrives while Docker and weave are killed and come back,
// and after a reboot; containers can be connected and disconnected all the same.
func TestWayOutSurvives(t *testing.T) {
	t.Parallel()
	h := lab.Start(t, lab.Options{
		Name: "survives", Underlay: lab.NewUnderlay(t, outside), Address: sharedAddress,
		DockerArgs: []string{"--live-restore"},
	})
	p := h.StartPlugin(t)
	gatewayNetwork(t, h, "app", 9, "-o", "works.weave.gateway=auto")
	weaveNetwork(t, h, "old", "-o", "works.weave.gateway=docker")
	h.Run(t, "--network", "app", "--name", "one", "--restart", "always")
	h.Run(t, "--network", "old", "--name", "two", "--restart", "always")
	ways := []string{"10.91.9.1,fd91:0:0:9::1", "docker"}
	check := func(when string) {
		t.Helper()
		for i, name := range []string{"one", "two"} {
			lab.Eventually(t, 20*time.Second, "the way out of "+name+" "+when, func() error {
				found := endpoints(t, h, api.Query{Containers: []string{name}})
				if len(found) != 1 || found[0].Gateway != ways[i] {
					return fmt.Errorf("endpoints %+v, want the way out %s", found, ways[i])
				}
				return pingErr(h, name, outside.Addr().String())
			})
		}
	}
	check("at first")
	there := api.Endpoint{Addresses: []netip.Prefix{outside}}
	var pairs [][2]api.Endpoint
	for _, e := range awaitEndpoints(t, h, 2) {
		if e.Gateway != "docker" { // Docker 29 loses some over its own bridge while it writes its rules anew
			pairs = append(pairs, [2]api.Endpoint{e, there})
		}
	}
	for _, docker := range dockerEnds {
		stream := startPings(t, h, "0.02", pairs...)
		docker.end(h, t)
		p.Kill()
		p.Restart(t)
		h.StartDocker(t)
		check("with Docker and weave " + docker.name)
		stream.stop(t, "Docker and weave "+docker.name)
		h.Docker(t, "network", "connect", "app", "two")
		ping(t, h, "two", outside.Addr().String())
		h.Docker(t, "network", "disconnect", "app", "two")
		check("after connect and disconnect")
	}
	h.PowerOff(t)
	h.PowerOn(t)
	p.Restart(t)
	h.StartDocker(t)
	check("after a reboot")
	h.Docker(t, "rm", "-f", "one", "two")
}

// TestRouterOfIPv6Alone: where the router has no address for IPv4, nothing leaves by Docker's gateway instead.
func TestRouterOfIPv6Alone(t *testing.T) {
	h := sharedHost(t)
	weaveNetwork(t, h, "app", "--ipv6", "--subnet", "10.79.0.0/24", "--subnet", "fd00:79::/64",
		"-o", "works.weave.gateway=fd00:79::ffff")
	h.Run(t, "--network", "app", "--name", "client", "--expose", "80")
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "client") })
	if links := h.Docker(t, "exec", "client", "ls", "/sys/class/net"); strings.Contains(links, "eth1") {
		t.Errorf("the container has a second interface: %s", links)
	}
	if routes := h.Docker(t, "exec", "client", "ip", "route"); strings.Contains(routes, "default") {
		t.Errorf("the container has a way out for IPv4: %s", routes)
	}
	lab.Eventually(t, 10*time.Second, "the way out by the router", func() error {
		routes := h.Docker(t, "exec", "client", "ip", "-6", "route")
		if !strings.Contains(routes, "default via fd00:79::ffff") {
			return fmt.Errorf("routes %s", routes)
		}
		return nil
	})
}

// TestRouterOfIPv4Alone: what a container that exposes ports sends by IPv6 does not leave by another of its networks
// while it is on one whose router routes IPv4 alone, whether that is there or away.
func TestRouterOfIPv4Alone(t *testing.T) {
	h := routedHost(t, "router4")
	gatewayNetwork(t, h, "beside", 11, "-o", "works.weave.gateway=auto", "-o", "works.weave.nat=no")
	weaveNetwork(t, h, "app", "--subnet", "10.92.0.0/24", "-o", "works.weave.gateway=container:vpn")
	gatewayNetwork(t, h, "uplink", 14, "-o", "works.weave.nat=no")
	startRouter(t, h, "vpn", "app")
	h.Docker(t, "network", "connect", "uplink", "vpn")
	router := attachmentOf(t, h, "vpn", "uplink").IPAddress
	h.Run(t, "--network", "beside", "--ip", ownAddress(11), "--ip6", ownAddress6(11),
		"--name", "client", "--expose", "80")
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "client", "vpn") })
	alone := exit{by: map[string]string{"beside": "docker,fd91:0:0:11::1"},
		ipv4: sharedAddress.Addr().String(), ipv6: ownAddress6(11)}
	checkWayOut(t, h, "at the start", alone)
	byRouter := exit{by: map[string]string{"app": "10.92.0.1"}, ipv4: router}
	h.Docker(t, "network", "connect", "app", "client")
	checkWayOut(t, h, "with the router", byRouter)
	h.Docker(t, "restart", "-t", "0", "client")
	checkWayOut(t, h, "started again", byRouter)
	h.Docker(t, "stop", "-t", "0", "vpn")
	checkWayOut(t, h, "while the router is away", exit{by: byRouter.by})
	h.Docker(t, "network", "disconnect", "app", "client")
	checkWayOut(t, h, "when it has left the router", alone)

	// A gateway of IPv4 alone is no router's: there IPv6 leaves by the other network.
	weaveNetwork(t, h, "own4", "--subnet", "10.91.15.0/24", "-o", "works.weave.gateway=native",
		"-o", "works.weave.nat=no")
	h.Docker(t, "network", "connect", "--ip", ownAddress(15), "own4", "client")
	checkWayOut(t, h, "by a gateway of IPv4 alone", exit{
		by:   map[string]string{"own4": "10.91.15.1", "beside": "fd91:0:0:11::1"},
		ipv4: ownAddress(15), ipv6: ownAddress6(11),
	})
	h.Docker(t, "rm", "-f", "client")
}
