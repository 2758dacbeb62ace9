// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestSuspects: rules that drop are listed, whoever has made them, with what they have counted; others are not.
func TestSuspects(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		addDockerChains(t, backend)
		f, _ := newFirewall(t)
		w := newWire(t, "wv-1")
		for _, cmd := range commands(backend) {
			run(t, "", cmd, "-I", "FORWARD", "-i", "wv-1", "-j", "DROP")
			run(t, "", cmd, "-I", "FORWARD", "-i", "eth7", "-j", "ACCEPT")
		}
		w.checkTraffic(t, "with the user's drop", false)
		rules, err := f.Suspects(t.Context())
		must(t, err)
		if slices.ContainsFunc(rules, func(s Suspect) bool { return strings.Contains(s.Text, "eth7") }) {
			t.Errorf("a rule that accepts: %+v", rules)
		}
		for _, r := range rules {
			if strings.HasPrefix(r.Table, backend) && strings.HasSuffix(r.Table, "filter FORWARD") &&
				strings.Contains(r.Text, "-i wv-1") && r.Counted && r.Packets > 0 && r.Bytes > 0 {
				return
			}
		}
		t.Errorf("got %+v, want the rule of %s that drops, with what it has counted", rules, backend)
	})
}

// TestSuspectsElsewhere: what drops or rewrites is found in tables of the user's own, with its conditions, whether it
// counts or not; weave's own translations of addresses into themselves are not.
func TestSuspectsElsewhere(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), own(1)))
	shell(t, `
nft add table inet mine
nft 'add chain inet mine out { type filter hook forward priority 0; policy drop; }'
nft add rule inet mine out ip saddr 10.0.0.1 tcp dport 80 counter drop
nft 'add chain inet mine in { type filter hook input priority 0; }'
nft add rule inet mine in udp dport 53 reject
nft add table bridge mine
nft 'add chain bridge mine out { type filter hook forward priority 0; }'
nft add rule bridge mine out iifname wve-1 drop
nft add table ip mine
nft 'add chain ip mine pre { type nat hook prerouting priority -150; }'
nft add rule ip mine pre ip daddr 10.0.0.2 tcp dport 80 dnat to 10.0.0.3:81
nft 'add chain ip mine post { type nat hook postrouting priority 50; }'
nft add rule ip mine post masquerade
`)
	got, err := f.Suspects(t.Context())
	must(t, err)
	got = slices.DeleteFunc(got, func(s Suspect) bool { return !strings.Contains(s.Table, "mine") })
	table := func(table, text string) Rule { return Rule{Table: "nft " + table, Text: text} }
	counted := table("inet mine out", "? -s 10.0.0.1/32 -p tcp --dport 80 -j DROP")
	counted.Counted = true
	want := []Suspect{
		{Rule: counted},
		{Rule: table("inet mine out", "policy DROP")},
		{Rule: table("inet mine in", "-p udp --dport 53 -j REJECT"), OfHost: true},
		{Rule: table("bridge mine out", "-i wve-1 -j DROP"), OfLink: true},
		{
			Rule:     table("IPv4 mine pre", "-d 10.0.0.2/32 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.3:81"),
			Rewrites: true,
		},
		{Rule: table("IPv4 mine post", "-j MASQUERADE"), Rewrites: true},
	}
	byText := func(a, b Suspect) int { return strings.Compare(a.Table+a.Text, b.Table+b.Text) }
	slices.SortFunc(got, byText)
	slices.SortFunc(want, byText)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	run(t, "", "iptables-nft", "-P", "FORWARD", "DROP")
	must(t, f.Set(t.Context(), own(1)))
	all, err := f.Suspects(t.Context())
	must(t, err)
	if slices.ContainsFunc(all, func(s Suspect) bool { return strings.Contains(s.Table, "filter FORWARD") }) {
		t.Errorf("the policy is behind weave's rule: %+v", all)
	}
	own := func(s Suspect) bool { return s.Rewrites && strings.Contains(s.Table, ownTablePrefix) }
	if slices.ContainsFunc(all, own) {
		t.Errorf("weave's own table rewrites: %+v", all)
	}
}

// TestUnreadable: what can't be read is said, whichever back end it is of.
func TestUnreadable(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	run(t, "", "iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")
	all, err := f.Suspects(t.Context())
	must(t, err)
	translates := func(s Suspect) bool { return s.Rewrites && s.Table == "legacy IPv4 nat POSTROUTING" }
	if !slices.ContainsFunc(all, translates) {
		t.Errorf("got %+v, want what a legacy table translates", all)
	}
	t.Setenv("PATH", t.TempDir())
	f, _ = newFirewall(t)
	if _, err := f.Suspects(t.Context()); !errors.Is(err, errUnusable) {
		t.Errorf("without iptables-legacy: %v, want that its tables can't be read", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Suspects(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if isMissing(unix.EPERM) || isMissing(os.ErrDeadlineExceeded) || !isMissing(fmt.Errorf("list: %w", unix.EINVAL)) {
		t.Error("a failure is taken for a kernel without nftables")
	}
}

// TestReadChains: a chain whose rules can't be read is an error, and the others are read all the same; one that
// somebody has removed meanwhile is none.
func TestReadChains(t *testing.T) {
	table := &nftables.Table{Name: "mine", Family: nftables.TableFamilyINet}
	var listed []*nftables.Chain
	for _, name := range []string{"first", "gone", "secret", "last"} {
		listed = append(listed, &nftables.Chain{Table: table, Name: name})
	}
	chains, err := readChains(listed, func(_ *nftables.Table, c *nftables.Chain) ([]*nftables.Rule, error) {
		return nil, map[string]error{"gone": unix.ENOENT, "secret": unix.EPERM}[c.Name]
	})
	if !errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "mine secret") {
		t.Errorf("error %v, want that one chain can't be read", err)
	}
	if len(chains) != 2 || chains[0].name != "first" || chains[1].name != "last" {
		t.Errorf("got %+v, want the chains that can be read", chains)
	}
}

func TestParseSaved(t *testing.T) {
	const saved = "# Generated\n*raw\n:FORWARD ACCEPT [0:0]\n[1:2] -A FORWARD -j DROP\nCOMMIT\n*filter\n" +
		":FORWARD DROP [3:180]\n:MINE - [0:0]\n" +
		"[12:720] -A FORWARD -i eth1 -m comment --comment \"of mine\" -j DROP\n" +
		"[5:300] -A MINE -j ACCEPT\n[x:1] -A FORWARD -j REJECT\nnonsense\n[1:1] -A NONE -j DROP\n[1:1] -A\nCOMMIT\n"
	chains := parseSaved(ipv4, saved)
	var got []Suspect
	for _, c := range chains {
		got = append(got, c.suspects()...)
	}
	rule := func(table, text string, packets, bytes uint64) Suspect {
		return Suspect{Rule: Rule{"legacy IPv4 " + table, text, packets > 0, packets, bytes}}
	}
	want := []Suspect{
		rule("raw FORWARD", "-j DROP", 1, 2),
		rule("filter FORWARD", `-i eth1 -m comment --comment "of mine" -j DROP`, 12, 720),
		rule("filter FORWARD", "-j REJECT", 0, 0),
		rule("filter FORWARD", "policy DROP", 3, 180),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	wanted := legacyChains(chains)
	if len(wanted) != 1 || wanted[0].lines[1] != "-A FORWARD -j REJECT" {
		t.Errorf("got %+v, want the chain with its rules as they are written", wanted)
	}
}
