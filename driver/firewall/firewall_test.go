// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestSetLetsFramesPass(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		addDockerChains(t, backend)
		w := newWire(t, backend, "wv-1")
		f, _ := newFirewall(t)
		assertPasses := func(want bool, when string) {
			t.Helper()
			for _, kind := range kinds() {
				if got := w.passes(t, kind); got != want {
					t.Errorf("%s: %s passes: %t, want %t", when, kind, got, want)
				}
			}
		}

		assertPasses(false, "without a rule")
		must(t, f.Set(t.Context(), networks(1)))
		assertPasses(true, "with its rule")
		for _, cmd := range w.cmds {
			run(t, "", cmd, "-I", "DOCKER-USER", "-i", "wv-1", "-m", "comment", "--comment", "refused", "-j", "DROP")
		}
		assertPasses(false, "with the user's own drop")
		for _, cmd := range w.cmds {
			run(t, "", cmd, "-D", "DOCKER-USER", "1")
		}
		assertPasses(true, "without it")
		must(t, f.Set(t.Context(), nil))
		assertPasses(false, "with its rule removed")
	})
}

func TestSetTwice(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		addDockerChains(t, backend)
		f, _ := newFirewall(t)
		must(t, f.Set(t.Context(), nil))
		for _, wanted := range []map[string]string{networks(1, 2), networks(2), nil} {
			for range 2 {
				must(t, f.Set(t.Context(), wanted))
				assertRules(t, backend, slices.Sorted(maps.Keys(wanted))...)
			}
		}
	})
}

// TestConcurrentSets: what remains is one of the wanted sets as a whole, the last one.
func TestConcurrentSets(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		addDockerChains(t, backend)
		f, _ := newFirewall(t)
		start(t, f)
		// Somebody else is busy with the same chain.
		ctx, cancel := context.WithCancel(t.Context())
		var other sync.WaitGroup
		other.Go(func() {
			for ctx.Err() == nil {
				// Each may fail: the chain may change while the command reads and writes it.
				for _, verb := range []string{"-I", "-D"} {
					_ = exec.Command("iptables-"+backend, "-w", verb, "FORWARD", "-s", "10.0.0.1", "-j", "DROP").Run()
				}
			}
		})
		var all sync.WaitGroup
		for i := range 20 {
			wanted := map[string]string{"wv-1": "n1"}
			wanted[fmt.Sprintf("wv-2%02d", i)] = "n2"
			wanted[fmt.Sprintf("wv-3%02d", i)] = "n3"
			all.Go(func() {
				if err := f.Set(t.Context(), wanted); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		cancel()
		other.Wait()
		last := slices.Sorted(maps.Keys(f.currentTarget().rules))
		if len(last) != 3 || last[1][len("wv-2"):] != last[2][len("wv-3"):] {
			t.Errorf("the target's bridges are %q, want one of the wanted sets", last)
		}
		assertRules(t, backend, last...)
	})
}

func TestRefusedNamesChangeNothing(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), networks(1)))
	if err := f.Set(t.Context(), map[string]string{"wv-1": "n1", "wv+": "n2"}); err == nil {
		t.Error("Set accepts a wildcard")
	}
	if err := f.Set(t.Context(), map[string]string{"wv-1": "n1", "wv-2": "a b"}); err == nil {
		t.Error("Set accepts a network id with a space")
	}
	if diff := cmp.Diff(networks(1), f.currentTarget().rules); diff != "" {
		t.Errorf("wanted (-want +got):\n%s", diff)
	}
	if err := f.Problem(); err != nil {
		t.Errorf("Problem: %v, want none", err)
	}
	assertRules(t, nft, "wv-1")
	if _, err := New(Options{StateID: "a:b", Log: f.log}); err == nil {
		t.Error("New accepts a state id with a colon")
	}
}

func TestSetReplacesWhatAnEarlierProcessLeft(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	addDockerChains(t, nft)
	for _, backend := range []string{nft, legacy} {
		appendRules(t, backend, ours1, ours2, theirs1)
	}
	f, _ := newFirewall(t)

	before := allRules(t)
	must(t, f.repair(t.Context()))
	f.legacyChanged(t.Context())
	if diff := cmp.Diff(before, allRules(t)); diff != "" {
		t.Errorf("a repair before the first Set changed rules (-before +after):\n%s", diff)
	}

	must(t, f.Set(t.Context(), networks(2, 4)))
	assertRules(t, nft, "wv-2", "wv-4")
	assertRules(t, legacy)
	must(t, f.Set(t.Context(), nil))
	assertRules(t, nft)
	for _, backend := range []string{nft, legacy} {
		for _, cmd := range families(backend) {
			if !slices.Contains(forward(t, cmd), strings.TrimSpace(theirs1)) {
				t.Errorf("%s: another instance's rule is gone", cmd)
			}
		}
	}
}

// TestReplacesRulesOfAnotherState: the state was lost, and Docker's networks have been adopted into this one.
func TestReplacesRulesOfAnotherState(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		addDockerChains(t, backend)
		earlier2 := strings.Replace(ours2, ":aa:", ":bb:", 1)
		assertOnly := func(when string, want ...string) {
			t.Helper()
			for _, cmd := range families(backend) {
				var got []string
				for _, r := range forward(t, cmd) {
					if isWeave(r) {
						got = append(got, r+"\n")
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s: weave's rules of %s (-want +got):\n%s", when, cmd, diff)
				}
			}
		}
		appendRules(t, backend, earlier1, earlier2, theirs1)
		f, _ := newFirewall(t)
		must(t, f.Set(t.Context(), networks(1)))
		assertOnly("one network adopted", ours1, earlier2, theirs1)
		must(t, f.Set(t.Context(), networks(1, 2)))
		assertOnly("both networks adopted", ours2, ours1, theirs1)

		appendRules(t, backend, earlier1)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := f.Set(ended, networks(2)); err == nil {
			t.Error("Set succeeds though its context has ended")
		}
		must(t, f.Set(t.Context(), networks(2)))
		assertOnly("a network removed, at the second attempt", ours2, theirs1)

		appendRules(t, backend, earlier1)
		must(t, f.Set(t.Context(), networks(2, 3)))
		ours3 := strings.ReplaceAll(ours1, "1", "3")
		assertOnly("a network that is no longer this state's", ours3, ours2, theirs1, earlier1)
	})
}

// TestSetEndsWithItsContext: what it could not do, Run does, and be it that the last rule is removed.
func TestSetEndsWithItsContext(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), networks(1)))

	must(t, f.working.Acquire(t.Context(), 1)) // somebody is busy
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Set(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Set: %v, want %v", err, context.Canceled)
	}
	f.working.Release(1)
	if err := f.Problem(); !errors.Is(err, context.Canceled) {
		t.Errorf("Problem: %v, want %v", err, context.Canceled)
	}
	if len(f.changed) == 0 {
		t.Error("Run is not notified")
	}
	start(t, f)
	eventually(t, "the problem is cured", func() bool { return f.Problem() == nil })
	assertRules(t, nft)
}

// TestResultForAnEarlierTarget: it says nothing about the present one.
func TestResultForAnEarlierTarget(t *testing.T) {
	for _, result := range []error{nil, errors.New("disk on fire")} {
		f := &Firewall{stateID: "aa"}
		f.setTarget(networks(1))
		earlier := f.currentTarget()
		f.setTarget(networks(2))
		f.record(f.currentTarget(), errors.ErrUnsupported)
		f.record(earlier, result)
		if got := f.currentTarget(); !maps.Equal(got.rules, networks(2)) || !got.owner.networks["n1"] {
			t.Errorf("%v changes the target to %+v", result, got)
		}
		if err := f.Problem(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v changes the problem to %v", result, err)
		}
	}
}
