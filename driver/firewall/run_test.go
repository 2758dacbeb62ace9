// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestRunPutsRulesBack(t *testing.T) {
	for _, tt := range []struct {
		name    string
		damage  string // CMD: iptables
		missing bool   // rules were gone, which is worth a warning
	}{
		{"flush", "CMD -F FORWARD", true},
		{"delete", "CMD -D FORWARD 2", true},
		{"reload", "printf '*filter\n:FORWARD DROP\nCOMMIT\n' | CMD-restore", true},
		{"raw flushed", "CMD -t raw -F PREROUTING", true},
		{"restart of Docker", `CMD -I FORWARD -j DOCKER-FORWARD
CMD -D FORWARD -j DOCKER-USER
CMD -I FORWARD -j DOCKER-USER`, false},
		{"raw rules of Docker's put before", "CMD -t raw -I PREROUTING ! -i br-1 -j DROP", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, backend string) {
				addDockerChains(t, backend)
				f, hook := newFirewall(t)
				must(t, f.Set(t.Context(), append(own(1), named("br0")...)))
				start(t, f)
				hook.Reset()
				for _, cmd := range commands(backend) {
					shell(t, strings.ReplaceAll(tt.damage, "CMD", cmd))
				}
				for _, b := range f.backends {
					eventually(t, "rules are in place", func() bool { return inPlace(t, f, b) })
				}
				eventually(t, "the repair is logged", func() bool { return len(hook.AllEntries()) >= 2 })
				if got := warnings(hook) > 0; got != tt.missing {
					t.Errorf("warned: %t, want %t", got, tt.missing)
				}
			})
		})
	}
}

// inPlace reports whether a plan for what a back end has now is empty.
func inPlace(t *testing.T, f *Firewall, b backend) bool {
	t.Helper()
	must(t, f.working.Acquire(t.Context(), 1))
	defer f.working.Release(1)
	chains, err := b.look(t.Context())
	must(t, err)
	target := f.currentTarget()
	return !slices.ContainsFunc(chains, func(c chain) bool {
		rules := c.kind.rulesFor(f.wanted(target)[c.family], c.doors)
		return !plan(c.rules, rules, c.kind, target.owner).empty()
	})
}

// TestRunPutsTheOwnTableBack, whatever was done to it.
func TestRunPutsTheOwnTableBack(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), append(own(1), named("br0")...)))
	start(t, f)
	listed := func() string {
		var all strings.Builder
		for _, v := range []string{"ip", "ip6"} {
			out, _ := exec.Command("nft", "list", "table", v, "weave-aa").Output() // fails while there is none
			all.Write(out)
		}
		return all.String()
	}
	want := listed()
	for _, damage := range []string{
		"nft flush ruleset",
		"nft delete table ip weave-aa",
		"nft flush table ip6 weave-aa",
		"nft flush chain ip weave-aa input",
		"nft flush chain ip weave-aa input; nft delete chain ip weave-aa input",
		"nft insert rule ip weave-aa input accept",
		"nft flush chain ip weave-aa postrouting; nft add rule ip weave-aa postrouting masquerade",
	} {
		shell(t, damage)
		eventually(t, "the table is as it was after "+damage, func() bool {
			return listed() == want
		})
	}
}

// TestRunFollowsTheHost: from no engine to one on the legacy back end, to one on the other, to one that uses nftables
// itself; and stale chains of an engine that is gone draw no rules away.
func TestRunFollowsTheHost(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	w := newWire(t, "wv-1")
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), own(1)))
	start(t, f)
	for _, tt := range []struct{ name, script string }{
		{"no engine", ""},
		{"legacy", replaceBackend(dockerForward, "legacy")},
		{"both", replaceBackend(dockerForward, "nft")},
		{"nft, with stale chains of legacy", `
for c in iptables-legacy ip6tables-legacy; do $c -F; $c -P FORWARD ACCEPT; done`},
		{"nftables itself", `
for c in iptables-nft ip6tables-nft; do $c -F; $c -X; $c -P FORWARD DROP; done
` + foreignScripts["Docker 29's raw rules"]},
	} {
		if tt.script != "" {
			shell(t, tt.script)
		}
		for _, b := range f.backends {
			eventually(t, "rules are in place", func() bool { return inPlace(t, f, b) })
		}
		w.checkTraffic(t, tt.name, true)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	before := runtime.NumGoroutine()
	f, _ := newFirewall(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Run(ctx) }()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}
