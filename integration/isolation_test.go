// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/api"
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

// neighbourAddress is that of another host on a host's underlay, and the two have these addresses by IPv6.
var neighbourAddress = netip.MustParsePrefix("192.0.2.20/24")

const (
	sharedAddress6    = "2001:db8:1::10"
	neighbourAddress6 = "2001:db8:1::20"
)

// checkIsolation makes a network of each kind and fails t if a container reaches one on another network, or not the one
// on its own, by ping, TCP or UDP; if networks with a way out do not reach the outside; or if the host or a neighbour
// of its reaches containers that it must not.
func checkIsolation(t *testing.T, h *lab.Host) {
	t.Helper()
	h.Exec(t, "ip", "link", "add", "lan0", "type", "bridge")
	t.Cleanup(func() { h.Exec(t, "ip", "link", "del", "lan0") })
	h.Exec(t, "ip", "link", "set", "lan0", "up")
	names := slices.Sorted(maps.Keys(waysOut))
	sandboxes := map[string]string{}   // by container
	addresses := map[string][]string{} // of a kind's second container, which answers
	own := map[string]attachment{}     // of that container to its network
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
		for _, container := range []string{name + "-1", name + "-2"} {
			sandboxes[container] = sandboxOf(t, h, container)
		}
		answerAll(t, sandboxes[name+"-2"])
		addresses[name] = addressesOf(t, sandboxes[name+"-2"])
		own[name] = attachmentOf(t, h, name+"-2", name)
	}
	// Docker's own networks with nftables don't work while FORWARD of iptables has the policy DROP.
	blocked := usesNftables() && strings.Contains(h.Exec(t, "iptables", "-w", "-S", "FORWARD"), "-P FORWARD DROP")
	// Before Docker 27 nothing keeps others from Docker's networks by IPv6.
	open6 := !strings.Contains(h.Exec(t, "ip6tables-save"), "DOCKER") && !usesNftables()
	// And nothing lets IPv6 pass inside of them, where FORWARD has the policy DROP.
	blocked6 := open6 && strings.Contains(h.Exec(t, "ip6tables", "-w", "-S", "FORWARD"), "-P FORWARD DROP")
	all := slices.Concat(slices.Collect(maps.Values(addresses))...)
	got := make([]map[string]string, len(names)) // what answers the first container of each kind
	inParallel(t, 4, len(names), func(i int) error {
		got[i] = answers(t, sandboxes[names[i]+"-1"], all...)
		return nil
	})
	for i, from := range names {
		owns := []string{own[from].IPAddress, own[from].GlobalIPv6Address}
		reached := owns
		switch isDockers := strings.HasPrefix(from, "dockers"); {
		case isDockers && blocked:
			reached = nil
		case isDockers && blocked6:
			reached = owns[:1]
		}
		if len(reached) > 0 {
			reachesAll(t, "the other container on network "+from, sandboxes[from+"-1"], reached...)
		}
		for _, to := range names {
			for _, address := range addresses[to] {
				isOpen := open6 && strings.HasPrefix(to, "dockers") && strings.Contains(address, ":")
				for _, protocol := range protocols {
					reaches := got[i][protocol+" "+address] != ""
					if reaches && !isOpen && !slices.Contains(owns, address) {
						t.Errorf("network %s reaches %s at %s by %s", from, to, address, protocol)
					}
				}
			}
		}
	}
	for _, from := range []string{"auto", "native", "docker", "apart", "byrules", "vpn"} {
		if !blocked || from != "docker" && from != "vpn" {
			ping(t, h, from+"-1", outside.Addr().String())
		}
	}
	h.Exec(t, "ip", "address", "add", sharedAddress6+"/64", "dev", "eth0", "nodad")
	t.Cleanup(func() { h.Exec(t, "ip", "address", "del", sharedAddress6+"/64", "dev", "eth0") })
	checkHostApart(t, h, sandboxes, addresses)
	checkNeighbour(t, h, addresses)
}

// checkHostApart fails t if the host and containers reach each other where they must not, or not where they may.
func checkHostApart(t *testing.T, h *lab.Host, sandboxes map[string]string, addresses map[string][]string) {
	t.Helper()
	host := hostNamespace(h)
	answerAll(t, host)
	own := addressesOf(t, host) // the gateways of all networks among them
	for _, network := range []string{"auto", "apart"} {
		a := attachmentOf(t, h, network+"-2", network)
		if !slices.Contains(own, a.Gateway) {
			t.Errorf("the host's addresses %q are without the gateway %s", own, a.Gateway)
		}
		bridge := endpointOf(t, endpoints(t, h, api.Query{}), network+"-2").Bridge
		linkLocal := h.Exec(t, "sh", "-c",
			"ip -6 -o address show scope link dev "+bridge+" | awk '{print $4}' | cut -d/ -f1")
		all := append(slices.Clone(own), linkLocal+"%eth0")
		if network == "auto" {
			reachesAll(t, "the host from a container", sandboxes["auto-1"], all...)
			reachesAll(t, "a container from the host", host, addresses["auto"]...)
		} else {
			reachesNone(t, "the host from a container that is kept apart", sandboxes["apart-1"], all...)
			reachesNone(t, "a container that is kept apart from the host", host, addresses["apart"]...)
		}
	}
	withDockers := attachmentOf(t, h, "docker-2", "docker")
	reachesNone(t, "a container by a network without a gateway from the host", host,
		withDockers.IPAddress, withDockers.GlobalIPv6Address)
	reachesAll(t, "the host from a container with Docker's gateway", sandboxes["docker-1"],
		attachmentOf(t, h, "auto-2", "auto").Gateway)
}

// checkNeighbour fails t if another host, which has routes to the containers' subnets by this one, reaches a container
// on a network of weave's, or not the host itself.
func checkNeighbour(t *testing.T, h *lab.Host, addresses map[string][]string) {
	t.Helper()
	n := lab.Start(t, lab.Options{
		Name: "neighbour", NoDocker: true, Underlay: h.Underlay(), Address: neighbourAddress,
	})
	n.Exec(t, "ip", "address", "add", neighbourAddress6+"/64", "dev", "eth0", "nodad")
	n.Exec(t, "ip", "route", "add", "10.120.0.0/16", "via", sharedAddress.Addr().String())
	n.Exec(t, "ip", "route", "add", "fd78::/48", "via", sharedAddress6)
	reachesAll(t, "the host from its neighbour", hostNamespace(n), sharedAddress.Addr().String(), sharedAddress6)
	var ours []string
	for name := range waysOut {
		if !strings.HasPrefix(name, "dockers") {
			ours = append(ours, addresses[name]...)
		}
	}
	reachesNone(t, "containers from the host's neighbour", hostNamespace(n), ours...)
}
