// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// waysOut are networks of every way out, and Docker's own, by their names: the options of `docker network create`.
var waysOut = map[string][]string{
	"auto":     {"-d", "weave"},
	"native":   {"-d", "weave", "-o", "works.weave.gateway=native"},
	"docker":   {"-d", "weave", "-o", "works.weave.gateway=docker"},
	"inner":    {"-d", "weave", "--internal"},
	"untold":   {"-d", "weave", "-o", "works.weave.nat=no"},
	"apart":    {"-d", "weave", "-o", "works.weave.host=no"},
	"byrules":  {"-d", "weave", "-o", "works.weave.firewall=host"},
	"vpn":      {"-d", "weave", "-o", "works.weave.gateway=container:vpn-1"},
	"isp":      {"-d", "weave", "-o", "works.weave.gateway=10.120.8.1", "-o", "works.weave.bridge=lan0"},
	"dockers":  {"-d", "bridge"},
	"dockersi": {"-d", "bridge", "--internal"},
}

// checkIsolation makes a network of each kind and fails t if a container reaches one on another network, or not the one
// on its own, or if networks with a way out do not reach the outside.
func checkIsolation(t *testing.T, h *lab.Host) {
	t.Helper()
	h.Exec(t, "ip", "link", "add", "lan0", "type", "bridge")
	t.Cleanup(func() { h.Exec(t, "ip", "link", "del", "lan0") })
	h.Exec(t, "ip", "link", "set", "lan0", "up")
	names := make([]string, 0, len(waysOut))
	for name := range waysOut {
		names = append(names, name)
	}
	slices.Sort(names)
	addresses := map[string][]string{} // of a kind's second container
	for i, name := range names {
		// The router's address in isp is 10.120.8.1, and the eighth of the names is isp.
		h.CreateNetwork(t, name, append([]string{"--ipv6", "--subnet", fmt.Sprintf("10.120.%d.0/24", i+1),
			"--subnet", fmt.Sprintf("fd78:0:0:%d::/64", i+1)}, waysOut[name]...)...)
		h.Run(t, "--network", name, "--name", name+"-2")
		if name == "vpn" {
			h.Docker(t, "create", "--name", "vpn-1", "--network", "none", lab.Image)
			h.Docker(t, "network", "disconnect", "none", "vpn-1")
			h.Docker(t, "network", "connect", "--driver-opt", "works.weave.router=true", name, "vpn-1")
			h.Docker(t, "start", "vpn-1")
			t.Cleanup(func() { h.Docker(t, "rm", "-f", "vpn-1") })
		} else {
			h.Run(t, "--network", name, "--name", name+"-1")
		}
		const listAddresses = "ip -o address show scope global | awk '{print $4}' | cut -d/ -f1"
		addresses[name] = strings.Fields(h.Docker(t, "exec", name+"-2", "sh", "-c", listAddresses))
	}
	// Docker's own networks with nftables don't work while FORWARD of iptables has the policy DROP.
	blocked := usesNftables() && strings.Contains(h.Exec(t, "iptables", "-w", "-S", "FORWARD"), "-P FORWARD DROP")
	// Before Docker 27 nothing keeps others from Docker's networks by IPv6.
	open6 := !strings.Contains(h.Exec(t, "ip6tables-save"), "DOCKER") && !usesNftables()
	for _, from := range names {
		got := reached(h, from+"-1", slices.Concat(slices.Collect(maps.Values(addresses))...)...)
		for _, to := range names {
			for _, address := range addresses[to] {
				own := attachmentOf(t, h, to+"-2", to)
				isOwn := from == to && (address == own.IPAddress || address == own.GlobalIPv6Address)
				isOpen := open6 && strings.HasPrefix(to, "dockers") && strings.Contains(address, ":")
				isBlocked := blocked && from == to && strings.HasPrefix(to, "dockers")
				if reaches := slices.Contains(got, address); reaches != isOwn && !isOpen && !isBlocked {
					t.Errorf("network %s reaches %s at %s: %t", from, to, address, reaches)
				}
			}
		}
	}
	for _, from := range []string{"auto", "native", "docker", "apart", "byrules", "vpn"} {
		if !blocked || from != "docker" && from != "vpn" {
			ping(t, h, from+"-1", outside.Addr().String())
		}
	}
	for _, host := range []struct {
		network string
		reaches bool
	}{{"auto", true}, {"docker", true}, {"apart", false}} {
		got := reached(h, host.network+"-1", attachmentOf(t, h, "auto-2", "auto").Gateway)
		if reaches := len(got) > 0; reaches != host.reaches {
			t.Errorf("network %s reaches the host at a gateway: %t, want %t", host.network, reaches, host.reaches)
		}
	}
	if _, err := h.ExecErr("ping", "-c1", "-W1", attachmentOf(t, h, "docker-2", "docker").IPAddress); err == nil {
		t.Errorf("the host reaches a container of the network docker")
	}
}

// reached returns those of the addresses that answer a container's pings.
func reached(h *lab.Host, container string, addresses ...string) []string {
	const pings = `for a; do { ping -c1 -W2 "$a" >/dev/null 2>&1 && echo "$a"; } & done; wait`
	out, _ := h.DockerErr(append([]string{"exec", container, "sh", "-c", pings, "sh"}, addresses...)...)
	return strings.Fields(out)
}
