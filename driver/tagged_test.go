// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/internal/nstest"
)

// twoContainers are two containers on one network of a host whose bridges send frames through its rules.
type twoContainers struct {
	*rig
	one, two *nstest.NS
}

func newTwoContainers(t *testing.T, spec NetworkSpec) twoContainers {
	t.Helper()
	c := twoContainers{rig: newRig(t), one: nstest.New(t), two: nstest.New(t)}
	filterBridges(t)
	c.createNetwork(spec)
	for i, sandbox := range []*nstest.NS{c.one, c.two} {
		id, _ := c.createEndpoint(spec.ID, i+1)
		c.attach(id, sandbox, "eth0")
	}
	return c
}

// filterBridges has br_netfilter send the frames of bridges through the host's rules.
func filterBridges(t *testing.T) {
	t.Helper()
	for _, name := range []string{"iptables", "ip6tables", "arptables"} {
		if err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+name, []byte("1"), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// check fails the test if TCP or UDP does not pass between the containers, in both directions, over IPv4 and IPv6.
func (c twoContainers) check() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*time.Second)
	defer cancel()
	for i, addr := range newEndpoint(netID, 1).Addresses {
		one := nstest.Place{NS: c.one, Addr: addr.Addr()}
		two := nstest.Place{NS: c.two, Addr: newEndpoint(netID, 2).Addresses[i].Addr()}
		if err := errors.Join(nstest.Traffic(ctx, c.t, one, two), nstest.Traffic(ctx, c.t, two, one)); err != nil {
			c.t.Error(err)
		}
	}
}

// TestFramesPassNoRuleOfTheHost: whatever rules there are on the host, containers of one network reach each other.
func TestFramesPassNoRuleOfTheHost(t *testing.T) {
	for name, rules := range map[string][]string{
		"none":        nil,
		"policy DROP": {"iptables -P FORWARD DROP", "ip6tables -P FORWARD DROP"},
		"masquerade everything": {
			"iptables -t nat -A POSTROUTING -j MASQUERADE", "ip6tables -t nat -A POSTROUTING -j MASQUERADE",
		},
		"masquerade private addresses": {"iptables -t nat -A POSTROUTING -s 10.0.0.0/8 ! -o eth0 -j MASQUERADE"},
		"drop early": {
			"iptables -t raw -A PREROUTING -d 10.40.0.0/16 ! -i br-other -j DROP",
			"ip6tables -t raw -A PREROUTING -j DROP",
		},
		"legacy": {"iptables-legacy -P FORWARD DROP", "ip6tables-legacy -P FORWARD DROP"},
		"nftables": {
			"nft add table inet filter",
			"nft add chain inet filter forward { type filter hook forward priority 0 ; policy drop ; }",
		},
		"arptables": {
			"nft add table arp filter",
			"nft add chain arp filter input { type filter hook input priority 0 ; policy drop ; }",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			c := newTwoContainers(t, newNetwork(netID))
			giveHostAddress(t)
			for _, rule := range rules {
				mustRun(t, rule)
			}
			c.check()
			if rules := firewallTables(t); len(rules) > 0 {
				t.Errorf("weave has rules that nobody needs: %q", rules)
			}
		})
	}
}

// giveHostAddress gives the host an address and a default route, so that a rule that masquerades has something to work
// with.
func giveHostAddress(t *testing.T) {
	t.Helper()
	for _, command := range []string{
		"ip link add outside type bridge", "ip link set outside up",
		"ip address add 192.0.2.1/24 dev outside", "ip address add 2001:db8::1/64 dev outside nodad",
		"ip route add default dev outside", "ip -6 route add default dev outside",
	} {
		mustRun(t, command)
	}
}

func mustRun(t *testing.T, command string) {
	t.Helper()
	args := strings.Fields(command)
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// TestRandomRules adds random rules to the host, more and more of them.
func TestRandomRules(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := newTwoContainers(t, newNetwork(netID))
	giveHostAddress(t)
	accepted, total := 0, 0
	for range 25 {
		var added []string
		for range 6 {
			rule := randomRule(random)
			args := strings.Fields(rule)
			total++
			if exec.CommandContext(t.Context(), args[0], args[1:]...).Run() == nil {
				added = append(added, rule)
				accepted++
			}
		}
		if c.check(); t.Failed() {
			t.Fatalf("after these rules and those before:\n%s", strings.Join(added, "\n"))
		}
	}
	if accepted < total/2 {
		t.Errorf("only %d of %d rules were accepted", accepted, total)
	}
}

// randomRule returns a command that adds a rule to one of the host's tables, or a chain with a rule.
func randomRule(random *rand.Rand) string {
	pick := func(choices ...string) string { return choices[random.IntN(len(choices))] }
	if random.IntN(4) == 0 {
		return randomChain(random, pick)
	}
	match := pick("", "", "-p tcp", "-p udp", "-i wv-+", "-m physdev --physdev-is-bridged",
		"-m conntrack --ctstate NEW", "-m conntrack --ctstate INVALID,NEW,ESTABLISHED",
		"-m addrtype --dst-type UNICAST", "-o wv-+")
	table, chains, targets := "filter", []string{"FORWARD", "INPUT", "OUTPUT"}, []string{"DROP", "REJECT", "ACCEPT"}
	switch random.IntN(4) {
	case 0:
		table, chains = "nat", []string{"POSTROUTING", "PREROUTING"}
		targets = []string{"MASQUERADE", "REDIRECT", "RETURN"}
		if random.IntN(2) == 0 {
			chains, targets = chains[:1], targets[:1]
		}
	case 1:
		table, chains = "mangle", []string{"PREROUTING", "FORWARD", "POSTROUTING"}
		targets = []string{"DROP", "MARK --set-mark 1", "TTL --ttl-set 1"}
	case 2:
		table, chains = "raw", []string{"PREROUTING"}
		targets = []string{"DROP", "CT --notrack"}
	}
	if chain := pick(chains...); !strings.Contains(match, "-o") || chain != "PREROUTING" && chain != "INPUT" {
		command := pick("iptables", "ip6tables", "iptables-legacy", "ip6tables-legacy")
		return fmt.Sprintf("%s -w -t %s %s %s %s -j %s",
			command, table, pick("-A", "-I"), chain, match, pick(targets...))
	}
	return randomRule(random)
}

// randomChain returns a command that adds a chain of nftables.
func randomChain(random *rand.Rand, pick func(...string) string) string {
	name := fmt.Sprintf("t%d", random.IntN(1<<30))
	family := pick("ip", "ip6", "inet")
	hook := pick("prerouting", "forward", "postrouting", "input")
	return fmt.Sprintf(
		"nft add table %s %s ; add chain %s %[2]s c { type filter hook %[4]s priority %d ; policy %s ; }",
		family, name, family, hook, random.IntN(600)-300, pick("drop", "accept"))
}

// TestHostRulesApply: with the option, and on kernels that can't do otherwise, the host's rules apply.
func TestHostRulesApply(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	c := newTwoContainers(t, underHostRules(netID))
	c.check()
	for _, args := range []string{"-N DOCKER-USER", "-A DOCKER-USER -p udp -j DROP", "-I FORWARD -j DOCKER-USER"} {
		mustRun(t, "iptables -w "+args)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	one := nstest.Place{NS: c.one, Addr: netip.MustParseAddr("10.40.0.2")}
	two := nstest.Place{NS: c.two, Addr: netip.MustParseAddr("10.40.0.3")}
	if err := nstest.Traffic(ctx, t, one, two); err == nil || !strings.Contains(err.Error(), "UDP") {
		t.Errorf("a rule of the host's does not apply: %v", err)
	}
	if len(firewallTables(t)) == 0 {
		t.Error("weave has no rule")
	}
}
