// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/integration/lab"
)

// weaveRule is what the rule for all of weave's own bridges begins with.
const weaveRule = "-i wv-+ -o wv-+ -m physdev"

// Containers reach each other although Docker sets the policy of FORWARD to DROP and br_netfilter sends the frames
// between two ports of a bridge through that chain.
func TestForwardPolicyDrop(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			h := firewalledHost(t, backend)
			weaveNetwork(t, h, "app", "--internal", "--ipv6", "--subnet", "10.53.0.0/24", "--subnet", "fd53::/64",
				"-o", "works.weave.firewall=host")
			h.Run(t, "--network", "app", "--name", "one")
			h.Run(t, "--network", "app", "--name", "two", "--ip", "10.53.0.50", "--ip6", "fd53::50")
			bridge := awaitEndpoints(t, h, 2)[0].Bridge

			for _, table := range []string{"iptables", "ip6tables"} {
				want(t, h.Exec(t, table, "-w", "-S", "FORWARD"), "-P FORWARD DROP", weaveRule)
			}
			ping(t, h, "one", "10.53.0.50")
			ping(t, h, "one", "fd53::50")

			// The frames really go through the chain: without that, the test would show nothing.
			h.Exec(t, "iptables", "-w", "-I", userChain(), "-i", bridge, "-o", bridge, "-j", "DROP")
			noPing(t, h, "one", "10.53.0.50")
			h.Exec(t, "iptables", "-w", "-D", userChain(), "1")

			// After somebody has flushed the chain, weave's rule comes back.
			for _, table := range []string{"iptables", "ip6tables"} {
				flushed := time.Now()
				h.Exec(t, table, "-w", "-F", "FORWARD")
				lab.Eventually(t, time.Minute, "rule of "+table+" after a flush", func() error {
					rules := h.Exec(t, table, "-w", "-S", "FORWARD")
					if !strings.Contains(rules, weaveRule) {
						return fmt.Errorf("rules:\n%s", rules)
					}
					return nil
				})
				t.Logf("%s: the rule is back %v after the flush", table, time.Since(flushed).Round(time.Millisecond))
			}
			ping(t, h, "one", "10.53.0.50")
			ping(t, h, "one", "fd53::50")

			h.Docker(t, "rm", "-f", "one", "two")
			h.Docker(t, "network", "rm", "app")
			for _, table := range []string{"iptables", "ip6tables"} {
				if rules := h.Exec(t, table, "-w", "-S"); strings.Contains(rules, "weave:") {
					t.Errorf("%s still has a rule though there is no network:\n%s", table, rules)
				}
			}
		})
	}
}

// userChain is the chain of iptables for rules of the user's. With nftables Docker makes no chain for them.
func userChain() string {
	if usesNftables() {
		return "FORWARD"
	}
	return "DOCKER-USER"
}

// usesNftables reports whether the hosts' Docker writes its rules with nftables, and none with iptables.
func usesNftables() bool { return os.Getenv("WEAVE_LAB_SUITE") == lab.Docker29nftables }

// firewalledHost is startFirewalled for t alone, which runs in parallel with other tests.
func firewalledHost(t *testing.T, backend string) *lab.Host {
	t.Helper()
	t.Parallel()
	h, _ := startFirewalled(t, backend)
	return h
}

// startFirewalled starts a host whose Docker uses the given back end of iptables (nft or legacy), and whose bridges
// send frames through a FORWARD chain with the policy DROP.
func startFirewalled(t *testing.T, backend string) (*lab.Host, *lab.Plugin) {
	t.Helper()
	h := lab.Start(t, lab.Options{
		Name: "fw-" + backend, NoDocker: true, Underlay: lab.NewUnderlay(t, outside), Address: sharedAddress,
	})
	startDockerWith(t, h, backend)
	h.Exec(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1", "net.bridge.bridge-nf-call-ip6tables=1")
	// Docker sets this policy itself only if it has enabled forwarding, and for IPv6 only in newer versions.
	h.Exec(t, "iptables", "-w", "-P", "FORWARD", "DROP")
	h.Exec(t, "ip6tables", "-w", "-P", "FORWARD", "DROP")
	return h, h.StartPlugin(t)
}

// startDockerWith starts a host's Docker, which uses the given back end of iptables (nft or legacy).
func startDockerWith(t *testing.T, h *lab.Host, backend string) {
	t.Helper()
	for _, table := range []string{"iptables", "ip6tables"} {
		h.Exec(t, "update-alternatives", "--set", table, "/usr/sbin/"+table+"-"+backend)
	}
	h.StartDocker(t)
	h.ImportImage(t)
}

func TestRulesOfTheUserComeFirst(t *testing.T) {
	h := firewalledHost(t, "nft")
	weaveNetwork(t, h, "app", "--internal", "-o", "works.weave.firewall=host")
	h.Run(t, "--network", "app", "--name", "one")
	h.Run(t, "--network", "app", "--name", "two")
	ping(t, h, "one", "two")
	bridge := awaitEndpoints(t, h, 2)[0].Bridge
	h.Exec(t, "iptables", "-w", "-I", userChain(), "-i", bridge, "-p", "icmp", "-j", "DROP")
	noPing(t, h, "one", "two")
}

func TestNetworksAreIsolated(t *testing.T) {
	h := sharedHost(t)
	checkIsolation(t, h)
}

// addressOf returns the IPv4 address of a link in a container.
func addressOf(t *testing.T, h *lab.Host, container, link string) string {
	t.Helper()
	fields := strings.Fields(h.Docker(t, "exec", container, "ip", "-4", "-o", "address", "show", link))
	if len(fields) < 4 {
		t.Fatalf("%s in %s has no address: %v", link, container, fields)
	}
	address, _, _ := strings.Cut(fields[3], "/")
	return address
}

func TestBroadcast(t *testing.T) {
	checkBroadcast(t, sharedHost(t))
}

// Broadcast, multicast and isolation are the same when frames go through a FORWARD chain with the policy DROP.
func TestTrafficWithForwardPolicyDrop(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			h := firewalledHost(t, backend)
			checkBroadcast(t, h)
			checkMulticast(t, h)
			checkIsolation(t, h)
		})
	}
}

// checkMulticast fails t if a datagram to a group does not reach a container that has joined it.
func checkMulticast(t *testing.T, h *lab.Host) {
	t.Helper()
	tool := buildMulticast(t)
	weaveNetwork(t, h, "group", "--internal", "-o", "works.weave.multicast=true")
	for _, name := range []string{"sender", "receiver"} {
		h.Run(t, "--network", "group", "--name", name)
		h.Docker(t, "cp", tool, name+":/bin/multicast")
	}
	lab.Eventually(t, 10*time.Second, "a multicast route", func() error {
		if routes := multicastRoutes(t, h, "sender"); len(routes) != 1 {
			return fmt.Errorf("routes to 224.0.0.0/4: %v", routes)
		}
		return nil
	})
	receive(t, h, "receiver", "eth0")
	h.Docker(t, "exec", "sender", "multicast", "send", multicastGroup, "from sender")
	received(t, h, "receiver", "from sender")
}

// checkBroadcast fails t if ARP and IPv4 broadcasts do not reach the other container on a network.
func checkBroadcast(t *testing.T, h *lab.Host) {
	t.Helper()
	weaveNetwork(t, h, "lan", "--internal", "--subnet", "10.56.0.0/24")
	h.Run(t, "--network", "lan", "--name", "one")
	h.Run(t, "--network", "lan", "--name", "two", "--sysctl", "net.ipv4.icmp_echo_ignore_broadcasts=0")
	two := attachmentOf(t, h, "two", "lan")
	h.Docker(t, "exec", "one", "arping", "-c1", "-w5", "-I", "eth0", two.IPAddress)
	out := h.Docker(t, "exec", "one", "ping", "-c1", "-w5", "10.56.0.255")
	want(t, out, "from "+two.IPAddress)
}
