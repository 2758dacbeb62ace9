// SPDX-License-Identifier: Apache-2.0

package firewall

import (
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
		{"! -i br-1 -d 172.18.0.2 -j DROP", "! -i br-1 ? ? -j DROP"},
		{"-o wv-+ -j ACCEPT", "-o wv-+ -j ACCEPT"},
		{"-m comment --comment last -j REJECT", "-m comment --comment last -j REJECT"},
		{"-m conntrack --ctstate NEW -j LOG", "-m conntrack ? -j LOG"},
		{"-m physdev --physdev-is-bridged -j ACCEPT", "-m physdev --physdev-is-bridged -j ACCEPT"},
		{"-m physdev ! --physdev-is-bridged -j ACCEPT", "-m physdev ? -j ACCEPT"},
		{"-m mark --mark 1 -j RETURN", "? -j ?"},
	} {
		run(t, "*filter\n:FORWARD -\n:DOCKER-USER -\n-A FORWARD "+tt.rule+"\nCOMMIT\n", "iptables-nft-restore")
		if got := onlyListing(t); !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%s is read as %q, want %s", tt.rule, got, tt.want)
		}
	}
	for _, tt := range []struct{ rule, want string }{
		{`iifname != { "a", "b" } drop comment "NO ACCESS"`, "! -i ? -m comment --comment NO_ACCESS -j DROP"},
		{`iifname "a" counter accept`, "-i a -j ACCEPT"},
		{`ip saddr 10.0.0.1 reject`, "? ? -j REJECT"},
		{`meta mark set 1`, "? ?"},
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

func onlyListing(t *testing.T) []string {
	t.Helper()
	chains, err := (&nft{}).look(t.Context())
	must(t, err)
	if len(chains) != 1 || len(chains[0].rules) != 1 {
		t.Fatalf("chains %+v, want one with one rule", chains)
	}
	return chains[0].rules[0]
}
