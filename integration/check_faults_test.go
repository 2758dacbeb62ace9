// SPDX-License-Identifier: Apache-2.0

package integration

import "testing"

// faults are the ways to bring the troubles between containers about, by their names.
func (h checkHost) faults() map[string]pairFault {
	all := map[string]pairFault{
		"nobody listens":                     {check: "ada idle --port 80"},
		"it listens at 127.0.0.1":            {check: "ada shy --port 80"},
		"an internal network has no way out": {check: "ina 192.0.2.1"},
		"the sender has lost its address": {
			"ada bob", h.inside("ada", "ip address flush dev eth0"),
			h.inside("ada", "ip address add {ada.prefix} dev eth0"),
		},
		"the receiver is down": {
			"ada bob --port 80", h.inside("bob", "ip link set eth0 down"), h.inside("bob", "ip link set eth0 up"),
		},
		"a small MTU": {
			"ada bob --port 80", h.inside("bob", "ip link set eth0 mtu 1000"),
			h.inside("bob", "ip link set eth0 mtu 1500"),
		},
		"another route wins": {
			"ada bob", h.inside("ada", "ip route add {bob}/32 dev lo"), h.inside("ada", "ip route del {bob}/32 dev lo"),
		},
		"the receiver answers another way": {
			"ada bob --port 80", h.both("ada", knowsBob, "bob", "ip route add {ada}/32 dev lo"),
			h.both("ada", forgetsBob, "bob", "ip route del {ada}/32 dev lo"),
		},
		"the receiver answers no ARP": {
			"ada bob --port 80", h.both("bob", "ip link set eth0 arp off", "ada", "ip neighbour flush dev eth0"),
			h.inside("bob", "ip link set eth0 arp on"),
		},
		"a stale neighbour": {
			"ada bob --port 80",
			h.inside("ada", "ip neighbour replace {bob} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"),
			h.inside("ada", forgetsBob),
		},
		"the receiver has a stale neighbour": {
			"ada bob --port 80",
			h.inside("bob", "ip neighbour replace {ada} lladdr 02:00:00:00:00:99 dev eth0 nud permanent"),
			h.inside("bob", "ip neighbour del {ada} dev eth0"),
		},
		"the bridge sends to another port": {
			"ada bob --port 80",
			h.both("ada", knowsBob, "", "bridge fdb replace {bob.mac} dev {shy.end} master static"),
			h.both("ada", forgetsBob, "", "bridge fdb del {bob.mac} dev {shy.end} master"),
		},
		"a qdisc drops": {
			"ada bob --port 80", h.both("ada", knowsBob, "", "tc qdisc replace dev {bob.end} root pfifo limit 0"),
			h.both("ada", forgetsBob, "", "tc qdisc del dev {bob.end} root"),
		},
	}
	for _, more := range []map[string]pairFault{h.firewallFaults(), h.nameFaults()} {
		for name, f := range more {
			all[name] = f
		}
	}
	return all
}

// What ada knows of bob's MAC does not depend on whether ARP passes.
const (
	knowsBob   = "ip neighbour replace {bob} lladdr {bob.mac} dev eth0 nud permanent"
	forgetsBob = "ip neighbour del {bob} dev eth0"
)

// both returns what runs a command in one namespace and then one in another.
func (h checkHost) both(first, command, second, then string) script {
	return func(t *testing.T) {
		t.Helper()
		h.inside(first, command)(t)
		h.inside(second, then)(t)
	}
}

// firewallFaults are those of rules, in the host and in the container.
func (h checkHost) firewallFaults() map[string]pairFault {
	drop, refuse := "-s {hal} -d {ham} -p tcp -j DROP", "-s {hal} -d {ham} -p tcp -j REJECT"
	mine := func(family, chain, rule string) pairFault {
		return pairFault{
			"hal ham --port 80",
			h.inside("", "nft add table "+family+" mine", "nft 'add chain "+family+" mine "+chain+"'",
				"nft 'add rule "+family+" mine "+rule+"'"),
			h.inside("", "nft delete table "+family+" mine"),
		}
	}
	const forward = "forward { type filter hook forward priority 0; }"
	const pair = "forward ip saddr {hal} ip daddr {ham} "
	bridge := mine("bridge", forward, "forward iifname {ada.end} meta l4proto { tcp, icmp } counter drop")
	bridge.check = "ada bob --port 80"
	inside := func(target string) pairFault {
		rule := " INPUT -p tcp --dport 80 -j " + target
		return pairFault{"ada bob --port 80", h.inside("bob", "iptables -A"+rule), h.inside("bob", "iptables -D"+rule)}
	}
	return map[string]pairFault{
		"a rule in DOCKER-USER drops": {
			"hal ham --port 80", h.inside("", "iptables -w -I "+userChain()+" "+drop),
			h.inside("", "iptables -w -D "+userChain()+" "+drop),
		},
		"a rule in FORWARD refuses": {
			"hal ham --port 80", h.inside("", "iptables -w -I FORWARD "+refuse),
			h.inside("", "iptables -w -D FORWARD "+refuse),
		},
		"a table of nftables drops":          mine("inet", forward, pair+"counter drop"),
		"a rule that does not count":         mine("inet", forward, pair+"drop"),
		"a table of the family bridge drops": bridge,
		"a rule translates the address": mine("ip", "prerouting { type nat hook prerouting priority -150; }",
			"prerouting ip saddr {hal} ip daddr {ham} tcp dport 80 counter dnat to 192.0.2.99"),
		"a firewall in the container refuses": inside("REJECT --reject-with tcp-reset"),
		"a firewall in the container drops":   inside("DROP"),
	}
}

// nameFaults are those of names.
func (h checkHost) nameFaults() map[string]pairFault {
	const past = " OUTPUT -d 127.0.0.11 -j ACCEPT" // Docker's rules, which lead to its resolver
	return map[string]pairFault{
		"the name does not resolve": {
			"ada bob", h.inside("ada", "iptables -t nat -I"+past), h.inside("ada", "iptables -t nat -D"+past),
		},
		"another container has the name": {
			"ada bob",
			func(t *testing.T) { h.Run(t, "--network", "checked", "--name", "twin", "--network-alias", "bob") },
			func(t *testing.T) { h.Docker(t, "rm", "-f", "twin") },
		},
	}
}
