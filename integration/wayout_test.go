// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// permutations returns all orders of the names.
func permutations(names ...string) [][]string {
	if len(names) == 0 {
		return [][]string{nil}
	}
	var out [][]string
	for i, first := range names {
		for _, rest := range permutations(slices.Delete(slices.Clone(names), i, i+1)...) {
			out = append(out, append([]string{first}, rest...))
		}
	}
	return out
}

// TestEveryOrder: in whatever order a container that exposes a port is connected to networks with different ways out,
// and disconnected, it leaves by the first by name that has a gateway, else by Docker's; and what would leave by a
// network whose router is a container leaves by nothing else while that is away.
func TestEveryOrder(t *testing.T) {
	h := routedHost(t, "orders")
	weaveNetwork(t, h, "base", "-o", "works.weave.gateway=docker", "--subnet", "10.92.0.0/24")
	gatewayNetwork(t, h, "a-auto", 11, "-o", "works.weave.gateway=auto", "-o", "works.weave.nat=no")
	gatewayNetwork(t, h, "b-native", 12, "-o", "works.weave.nat=no")
	gatewayNetwork(t, h, "c-routed", 13, "-o", "works.weave.gateway=container:vpn")
	gatewayNetwork(t, h, "uplink", 14, "-o", "works.weave.nat=no")
	h.Run(t, "--network", "base", "--name", "client", "--expose", "80")
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "client", "vpn") })
	on := map[string]bool{}
	var router attachment // to the outside; none while it is away
	check := func(done string) {
		t.Helper()
		w := exit{by: map[string]string{"base": "docker"}, ipv4: sharedAddress.Addr().String()}
		switch {
		case on["b-native"]:
			w = exit{map[string]string{"b-native": gateways(12)}, ownAddress(12), ownAddress6(12)}
		case on["c-routed"]:
			w = exit{map[string]string{"c-routed": gateways(13)}, router.IPAddress, router.GlobalIPv6Address}
		case on["a-auto"]:
			w.by["a-auto"], w.ipv6 = "docker,fd91:0:0:11::1", ownAddress6(11)
		}
		checkWayOut(t, h, "after "+done, w)
		if !on["b-native"] && !on["c-routed"] { // Docker shows it where it is the way out
			want(t, h.Docker(t, "inspect", "-f", "{{json .NetworkSettings.Ports}}", "client"), "80/tcp")
		}
	}
	check("the start")
	numbers := map[string]int{"a-auto": 11, "b-native": 12, "c-routed": 13}
	for _, when := range []string{"without a router", "with a router"} {
		if when == "with a router" {
			startRouter(t, h, "vpn", "c-routed")
			h.Docker(t, "network", "connect", "uplink", "vpn")
			router = attachmentOf(t, h, "vpn", "uplink")
		}
		for _, order := range permutations("a-auto", "b-native", "c-routed") {
			for _, network := range order {
				connect(t, h, network, numbers[network], 0)
				on[network] = true
				check(fmt.Sprintf("connect %s of %v, %s", network, order, when))
			}
			for _, network := range order {
				h.Docker(t, "network", "disconnect", network, "client")
				on[network] = false
				check(fmt.Sprintf("disconnect %s of %v, %s", network, order, when))
			}
		}
	}
}

// TestPortInEveryOrder: a published port answers in whatever order its container is connected to further networks and
// disconnected; where it would be dead the container is refused.
func TestPortInEveryOrder(t *testing.T) {
	_, h := wayOutHost(t, "portorders")
	weaveNetwork(t, h, "base", "-o", "works.weave.gateway=docker", "--subnet", "10.92.0.0/24")
	gatewayNetwork(t, h, "a-auto", 11, "-o", "works.weave.gateway=auto")
	gatewayNetwork(t, h, "b-native", 12)
	gatewayNetwork(t, h, "c-routed", 13, "-o", "works.weave.gateway=container:away")
	weaveNetwork(t, h, "d-docker", "-o", "works.weave.gateway=docker", "--subnet", "10.92.1.0/24")
	h.RunCommand(t, []string{"--network", "base", "--name", "site", "-p", "8095:80"}, "httpd", "-f", "-h", "/www")
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "site") })
	check := func(done string) {
		t.Helper()
		lab.Eventually(t, 10*time.Second, "the page after "+done, func() error {
			out, err := h.ExecErr("curl", "-sS", "--max-time", "5", "http://127.0.0.1:8095/")
			if err == nil && out+"\n" != lab.Page {
				err = fmt.Errorf("got %q", out)
			}
			return err
		})
	}
	for _, order := range permutations("a-auto", "d-docker", "base") {
		for _, network := range order {
			if network != "base" {
				h.Docker(t, "network", "connect", network, "site")
				check("connect " + network)
			}
			for _, other := range []string{"b-native", "c-routed"} {
				if out, err := h.DockerErr("network", "connect", other, "site"); err == nil {
					t.Errorf("a container with a published port was connected to %s: %s", other, out)
				}
			}
			check("the refusals")
		}
		for _, network := range order[1:] {
			h.Docker(t, "network", "disconnect", network, "site")
			check("disconnect " + network)
		}
		if order[0] != "base" {
			h.Docker(t, "network", "connect", "base", "site")
			h.Docker(t, "network", "disconnect", order[0], "site")
			check("connect base")
		}
	}
}

// TestWayOutOfSeveralNetworks: of several networks with a gateway the first by name is a container's way out, or, from
// Docker 28 on, the one with the highest gw-priority; and before one of IPv4 alone goes one of both families.
func TestWayOutOfSeveralNetworks(t *testing.T) {
	h := routedHost(t, "several")
	weaveNetwork(t, h, "base", "--internal")
	names := []string{"a-native", "b-native", "c-routed"}
	gatewayNetwork(t, h, names[0], 11, "-o", "works.weave.nat=no")
	gatewayNetwork(t, h, names[1], 12, "-o", "works.weave.nat=no")
	gatewayNetwork(t, h, names[2], 13, "-o", "works.weave.gateway=container:away")
	h.Run(t, "--network", "base", "--name", "client")
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "client") })
	cases := []struct {
		order      [3]int // in which the networks are connected, and disconnected
		priorities [3]int
	}{
		{order: [3]int{0, 1, 2}}, {order: [3]int{2, 1, 0}}, {order: [3]int{1, 2, 0}},
		{[3]int{0, 1, 2}, [3]int{0, 0, 1}}, {[3]int{2, 0, 1}, [3]int{0, 1, 1}}, {[3]int{1, 0, 2}, [3]int{0, 2, 1}},
		{[3]int{2, 1, 0}, [3]int{-1, 0, 0}}, {[3]int{1, 2, 0}, [3]int{-1, -1, -2}}, {[3]int{0, 2, 1}, [3]int{1, 0, 0}},
	}
	if !announced(t, h) {
		cases = cases[:3] // Docker before 28 has no gw-priority
	}
	for _, c := range cases {
		on := map[int]bool{}
		check := func(done string) {
			t.Helper()
			first := -1
			for i := range names {
				if on[i] && (first < 0 || c.priorities[i] > c.priorities[first]) {
					first = i
				}
			}
			var w exit
			if first >= 0 {
				w.by = map[string]string{names[first]: gateways(11 + first)}
			}
			if first == 0 || first == 1 { // the router of the third is away
				w.ipv4, w.ipv6 = ownAddress(11+first), ownAddress6(11+first)
			}
			what := fmt.Sprintf("after %s, order %v, priorities %v", done, c.order, c.priorities)
			checkWayOut(t, h, what, w)
		}
		for _, i := range c.order {
			connect(t, h, names[i], 11+i, c.priorities[i])
			on[i] = true
			check("connect " + names[i])
		}
		for _, i := range c.order {
			h.Docker(t, "network", "disconnect", names[i], "client")
			on[i] = false
			check("disconnect " + names[i])
		}
	}
	weaveNetwork(t, h, "0-ipv4", "--subnet", "10.91.14.0/24", "-o", "works.weave.gateway=native",
		"-o", "works.weave.nat=no")
	h.Docker(t, "network", "connect", "--ip", ownAddress(14), "0-ipv4", "client")
	alone := exit{by: map[string]string{"0-ipv4": "10.91.14.1"}, ipv4: ownAddress(14)}
	checkWayOut(t, h, "by a network of IPv4 alone", alone)
	connect(t, h, "a-native", 11, 0)
	both := exit{map[string]string{"a-native": gateways(11)}, ownAddress(11), ownAddress6(11)}
	checkWayOut(t, h, "beside a network of IPv4 alone", both)
	h.Docker(t, "network", "disconnect", "a-native", "client")
	checkWayOut(t, h, "by a network of IPv4 alone again", alone)
	if announced(t, h) {
		h.Docker(t, "network", "disconnect", "0-ipv4", "client")
		post(t, h, "/networks/0-ipv4/connect", `{"Container":"client","EndpointConfig":{"GwPriority":1,`+
			`"IPAMConfig":{"IPv4Address":"`+ownAddress(14)+`"}}}`)
		connect(t, h, "a-native", 11, 0)
		priority := both
		if dockerMajor(t, h) >= 29 { // before, one of both families goes before others whatever their priorities are
			priority = exit{
				by:   map[string]string{"0-ipv4": "10.91.14.1", "a-native": "fd91:0:0:11::1"},
				ipv4: ownAddress(14), ipv6: ownAddress6(11),
			}
		}
		checkWayOut(t, h, "where a network of IPv4 alone has priority", priority)
	}
	h.Docker(t, "rm", "-f", "client")
}

// TestOutsideByIPv6: containers reach the outside by IPv6, with the host's address or with their own, also on networks
// without IPv4.
func TestOutsideByIPv6(t *testing.T) {
	under, h := wayOutHost(t, "outside6")
	gatewayNetwork(t, h, "translated", 14)
	h.Run(t, "--network", "translated", "--name", "one")
	gatewayNetwork(t, h, "routed", 15, "-o", "works.weave.nat=no")
	h.Run(t, "--network", "routed", "--name", "two")
	t.Cleanup(func() { h.Docker(t, "rm", "-f", "one", "two") })
	ping(t, h, "one", outside6.String())
	noPing(t, h, "two", outside6.String()) // nothing leads back
	under.Exec(t, "ip", "route", "add", "fd91::/48", "via", sharedAddress6)
	ping(t, h, "two", outside6.String())
	// Also when the host has to ask where the container is.
	for _, container := range []string{"one", "two"} {
		h.Exec(t, "ip", "-6", "neigh", "flush", "nud", "all")
		if out, err := h.DockerErr("exec", container, "ping", "-c3", "-W2", outside6.String()); err != nil {
			t.Errorf("%s after the host has forgotten its neighbours: %v, %s", container, err, out)
		}
	}
	if !announced(t, h) {
		return // Docker before 28 has no networks without IPv4
	}
	answerAll(t, under.Path())
	for i, c := range []struct{ options, source string }{
		{``, sharedAddress6},
		{`"works.weave.gateway":"native"`, sharedAddress6},
		{`"works.weave.nat":"no"`, "fd91:0:0:18::2"},
		{`"works.weave.gateway":"native","works.weave.nat":"no"`, "fd91:0:0:19::2"},
	} {
		name := fmt.Sprint("only6-", i)
		post(t, h, "/networks/create", fmt.Sprintf(
			`{"Name":%q,"Driver":"weave","Options":{%s},"EnableIPv4":false,"EnableIPv6":true,`+
				`"IPAM":{"Config":[{"Subnet":"fd91:0:0:%d::/64"}]}}`, name, c.options, 16+i))
		t.Cleanup(func() { h.Docker(t, "network", "rm", name) })
		h.Run(t, "--network", name, "--name", name)
		t.Cleanup(func() { h.Docker(t, "rm", "-f", name) })
		seenOutside(t, "a container without IPv4, options "+c.options, sandboxOf(t, h, name), "", c.source)
	}
}
