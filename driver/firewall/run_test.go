// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"runtime"
	"slices"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestRunPutsRulesBack(t *testing.T) {
	for _, tt := range []struct {
		name    string
		damage  func(t *testing.T, cmd string)
		missing bool // rules were gone, which is worth a warning
	}{
		{"flush", func(t *testing.T, cmd string) { run(t, "", cmd, "-F", "FORWARD") }, true},
		{"delete", func(t *testing.T, cmd string) { run(t, "", cmd, "-D", "FORWARD", "2") }, true},
		{"reload", func(t *testing.T, cmd string) {
			run(t, "*filter\n:FORWARD DROP\nCOMMIT\n", cmd+"-restore")
		}, true},
		{"restart of Docker", func(t *testing.T, cmd string) {
			run(t, "", cmd, "-I", "FORWARD", "-j", "DOCKER-FORWARD")
			run(t, "", cmd, "-D", "FORWARD", "-j", "DOCKER-USER")
			run(t, "", cmd, "-I", "FORWARD", "-j", "DOCKER-USER")
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, backend string) {
				addDockerChains(t, backend)
				f, hook := newFirewall(t)
				want := networks(1, 2)
				must(t, f.Set(t.Context(), want))
				start(t, f)
				hook.Reset()
				for _, cmd := range families(backend) {
					tt.damage(t, cmd)
				}
				for _, cmd := range families(backend) {
					eventually(t, "rules are back in "+cmd, func() bool {
						chain := forward(t, cmd)
						commands := plan(chain, want, f.currentTarget().owner).commands
						return len(ruleBridges(chain)) == 2 && len(commands) == 0
					})
				}
				eventually(t, "the repair is logged", func() bool { return len(hook.AllEntries()) >= 2 })
				if got := warnings(hook) > 0; got != tt.missing {
					t.Errorf("warned: %t, want %t", got, tt.missing)
				}
			})
		})
	}
}

func TestRunPutsRulesBackAfterRulesetFlush(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	addDockerChains(t, nft)
	f, hook := newFirewall(t)
	must(t, f.Set(t.Context(), networks(1)))
	start(t, f)
	const rounds = 3
	for range rounds {
		run(t, "", "nft", "flush", "ruleset")
		for _, cmd := range families(nft) {
			eventually(t, "rule is back in "+cmd, func() bool {
				return slices.Equal(ruleBridges(forward(t, cmd)), []string{"wv-1"})
			})
		}
	}
	// Own writes are reported as events, too. Had each led to another one, there would be more.
	must(t, f.working.Acquire(t.Context(), 1)) // whoever wrote has logged it
	defer f.working.Release(1)
	if got, want := warnings(hook), rounds*2; got != want {
		t.Errorf("%d repairs, want %d: one for each flush and family", got, want)
	}
}

func TestRunFollowsDocker(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), networks(1)))
	assertRules(t, nft, "wv-1")
	start(t, f)
	assertMoves := func(from, to string) {
		t.Helper()
		for i, cmd := range families(to) {
			eventually(t, "rule is in "+cmd+" alone", func() bool {
				return len(ruleBridges(forward(t, cmd))) == 1 && len(ruleBridges(forward(t, families(from)[i]))) == 0
			})
		}
	}
	addDockerChains(t, legacy)
	assertMoves(nft, legacy)
	removeDockerChains(t, legacy)
	addDockerChains(t, nft)
	assertMoves(legacy, nft)
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
