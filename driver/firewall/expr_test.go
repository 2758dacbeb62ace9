// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestIptablesListsWeavesRules: rules that weave writes by netlink are rules of iptables for iptables, and weave reads
// them back as it wrote them.
func TestIptablesListsWeavesRules(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	addDockerChains(t, "nft")
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), append(own(1), named("br0")...)))
	for _, cmd := range commands("nft") {
		want := parse(br0 + all)
		if diff := cmp.Diff(want, parse(strings.Join(ours(forward(t, cmd)), "\n"))); diff != "" {
			t.Errorf("FORWARD of %s (-want +got):\n%s", cmd, diff)
		}
		raw := strings.Join(chainRules(t, cmd, "raw", "PREROUTING"), "\n")
		if diff := cmp.Diff(parse(rawAll), parse(raw)); diff != "" {
			t.Errorf("raw PREROUTING of %s (-want +got):\n%s", cmd, diff)
		}
		// iptables can change and restore its table with them.
		saved := run(t, "", cmd+"-save")
		run(t, saved, cmd+"-restore")
		run(t, "", cmd, "-D", "FORWARD", "-j", "DOCKER-FORWARD")
		run(t, "", cmd, "-C", "FORWARD", "-i", "br0", "-o", "br0", "-m", "physdev", "--physdev-is-bridged",
			"-m", "comment", "--comment", "weave:aa:br0", "-j", "ACCEPT")
	}
	must(t, f.Set(t.Context(), append(own(1), named("br0")...)))
	for _, cmd := range commands("nft") {
		if got := ours(forward(t, cmd)); len(got) != 2 {
			t.Errorf("%s has %q, want two rules", cmd, got)
		}
	}
}

// TestListing: rules of others, written by iptables and by nft, are read as iptables lists them as far as it matters.
func TestListing(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	for _, tt := range []struct{ rule, want string }{
		{"-j DOCKER-USER", "-j DOCKER-USER"},
		{"-g DOCKER-USER", "-g DOCKER-USER"},
		{"-i eth0 -j DOCKER-USER", "-i eth0 -j DOCKER-USER"},
		{"! -i br-1 -d 172.18.0.2 -j DROP", "! -i br-1 -d 172.18.0.2/32 -j DROP"},
		{"-o wv-+ -j ACCEPT", "-o wv-+ -j ACCEPT"},
		{"-m comment --comment last -j REJECT", "-m comment --comment last -j REJECT"},
		{"-m conntrack --ctstate NEW -j LOG", "-m conntrack ? -j LOG"},
		{"-m physdev --physdev-is-bridged -j ACCEPT", "-m physdev --physdev-is-bridged -j ACCEPT"},
		{"-m physdev ! --physdev-is-bridged -j ACCEPT", "-m physdev ? -j ACCEPT"},
		{"-m mark --mark 1 -j RETURN", "? -j RETURN"},
		{"-s 10.0.0.0/12 ! -d 10.1.0.0/16 -p 132 -j DROP", "-p 132 -s 10.0.0.0/12 ! -d 10.1.0.0/16 -j DROP"},
	} {
		run(t, "*filter\n:FORWARD -\n:DOCKER-USER -\n-A FORWARD "+tt.rule+"\nCOMMIT\n", "iptables-nft-restore")
		if got := onlyListing(t); !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%s is read as %q, want %s", tt.rule, got, tt.want)
		}
	}
	for _, tt := range []struct{ rule, want string }{
		{`iifname != { "a", "b" } drop comment "NO ACCESS"`, "! -i ? -m comment --comment NO_ACCESS -j DROP"},
		{`iifname "a" counter accept`, "-i a -j ACCEPT"},
		{`ip saddr 10.0.0.1 reject`, "-s 10.0.0.1/32 -j REJECT"},
		{`ip daddr & 255.0.255.0 == 10.0.1.0 tcp dport 80 drop`, "-d ? -p tcp --dport 80 -j DROP"},
		{`udp sport != 53 drop`, "-p udp ! --sport 53 -j DROP"},
		{`tcp dport > 53 drop`, "-p tcp ? -j DROP"},
		{`tcp flags syn ip ttl 5 drop`, "-p tcp ? ? ? ? ? -j DROP"},
		{`ct state established,related accept`, "-m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"},
		{`ct state & (invalid|new) == 0 accept`, "-m conntrack ! --ctstate INVALID,NEW -j ACCEPT"},
		{`ct direction original accept`, "? ? -j ACCEPT"},
		{`meta mark set 1`, "?"},
	} {
		shell(t, "nft flush chain ip filter FORWARD\nnft 'add rule ip filter FORWARD "+tt.rule+"'")
		got := onlyListing(t)
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], " ", "_")
		}
		if !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%s is read as %q, want %s", tt.rule, got, tt.want)
		}
	}
}

// TestAnyRuleCanBeRead: whatever others have in a chain, weave can look at it.
func TestAnyRuleCanBeRead(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	for _, cmd := range commands("nft") {
		run(t, "*filter\n:FORWARD -\nCOMMIT\n", cmd+"-restore")
	}
	shell(t, `
nft add set ip filter hosts '{ type ipv4_addr; flags dynamic,timeout; }'
nft add map ip filter ports '{ type inet_service : verdict; }'
nft add chain ip filter other
nft add counter ip filter counted
nft add quota ip filter much 10 mbytes
`)
	for _, rule := range []string{
		"-p tcp --tcp-flags SYN,ACK SYN -m multiport --dports 1,2,3:9 -j ACCEPT", "-p icmp --icmp-type 8 -j RETURN",
		"-m conntrack --ctstate NEW,RELATED --ctproto tcp -j DROP", "-m state --state INVALID -j DROP",
		"-m limit --limit 5/s -j LOG --log-prefix x", "-m mark --mark 1/3 -j MARK --set-mark 4",
		"-m hashlimit --hashlimit-above 5/s --hashlimit-name a -j DROP", "-m connlimit --connlimit-above 3 -j DROP",
		"-m recent --name a --set", "-m iprange --src-range 10.0.0.1-10.0.0.9 -j DROP",
		"-m time --timestart 8:00 -j DROP",
		"-m addrtype --dst-type LOCAL -j ACCEPT", "-m string --string abc --algo bm -j DROP",
		"-m ttl --ttl-lt 5 -j DROP",
		"-m mac --mac-source 02:00:00:00:00:01 -j DROP", "-m statistic --mode random --probability 0.5 -j DROP",
		"-m length --length 5:9 -j DROP", "-m tos --tos 8 -j DROP", "-m policy --dir in --pol ipsec -j ACCEPT",
		"-m physdev --physdev-in x -j DROP", "-p udp -m udp --sport 5 -j REJECT",
		"-p tcp -j TCPMSS --clamp-mss-to-pmtu",
		"-m quota --quota 5 -j DROP", "-m set --match-set none src -j DROP", "-m bpf --bytecode 1,6,0,0,1 -j DROP",
	} {
		for _, cmd := range commands("nft") { // not every kernel and every family has every match
			_ = exec.Command(cmd, append([]string{"-A", "FORWARD"}, strings.Fields(rule)...)...).Run()
		}
	}
	for _, rule := range []string{
		"ct state established,related accept", "limit rate 5/second accept", "tcp dport { 1, 2-9 } drop",
		"tcp dport vmap { 1 : accept, 2 : jump other }", "tcp dport vmap @ports",
		"update @hosts { ip saddr timeout 1m }",
		"fib saddr . iif oif missing drop", "rt mtu > 5 accept", "socket transparent 1 accept", "meta mark set ct mark",
		"numgen inc mod 2 vmap { 0 : drop, 1 : accept }", "jhash ip saddr mod 2 0 drop", "log prefix x group 1",
		"ip option rr exists drop", "tcp option maxseg size set 1000", "ct count over 5 drop", "queue num 1 bypass",
		"counter name counted", "quota name much drop", "meta time > 5 drop", "th dport 5 reject with tcp reset",
		"ip daddr & 255.0.0.0 == 10.0.0.0 drop", "osf name Linux drop", "dup to 10.0.0.1", "ct helper set x",
		"meter a { ip saddr limit rate 5/second } drop", "ip dscp cs1 continue", "last", "exthdr frag exists drop",
	} {
		_ = exec.Command("nft", "add", "rule", "ip", "filter", "FORWARD", rule).Run()
	}
	listed := 0
	for _, v := range []string{"ip", "ip6"} {
		out := run(t, "", "nft", "-n", "-a", "list", "chain", v, "filter", "FORWARD")
		listed += strings.Count(out, "# handle") - 1 // of the chain
	}
	chains, err := (&nft{}).look(t.Context())
	must(t, err)
	read := 0
	for _, c := range chains {
		read += len(c.rules)
	}
	t.Logf("%d rules", read)
	if read != listed || read < 40 {
		t.Errorf("%d rules are read, nft lists %d", read, listed)
	}
}

func onlyListing(t *testing.T) []string {
	t.Helper()
	chains, err := (&nft{}).look(t.Context())
	must(t, err)
	if len(chains) != 1 || len(chains[0].rules) != 1 {
		t.Fatalf("chains %+v, want one with one rule", chains)
	}
	return chains[0].rules[0]
}
