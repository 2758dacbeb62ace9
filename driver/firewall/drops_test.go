// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"slices"
	"strings"
	"testing"
)

// TestDrops: rules that drop are listed, whoever has made them, with what they have counted; others are not.
func TestDrops(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		addDockerChains(t, backend)
		f, _ := newFirewall(t)
		w := newWire(t, "wv-1")
		for _, cmd := range commands(backend) {
			run(t, "", cmd, "-I", "FORWARD", "-i", "wv-1", "-j", "DROP")
			run(t, "", cmd, "-I", "FORWARD", "-i", "eth7", "-j", "ACCEPT")
		}
		w.checkTraffic(t, "with the user's drop", false)
		rules, err := f.Drops(t.Context())
		must(t, err)
		if slices.ContainsFunc(rules, func(r Rule) bool { return strings.Contains(r.Text, "eth7") }) {
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

func TestLegacyDrops(t *testing.T) {
	const saved = "*filter\n:FORWARD DROP [3:180]\n" +
		"[12:720] -A FORWARD -i eth1 -m comment --comment \"of mine\" -j DROP\n" +
		"[5:300] -A FORWARD -j ACCEPT\n[x:1] -A FORWARD -j REJECT\nnonsense\nCOMMIT\n"
	got := legacyDrops(ipv4, saved)
	want := []Rule{
		{"legacy IPv4 filter FORWARD", `-i eth1 -m comment --comment "of mine" -j DROP`, true, 12, 720},
		{Table: "legacy IPv4 filter FORWARD", Text: "-j REJECT", Bytes: 1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
