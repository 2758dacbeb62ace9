// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestUserDecides: a drop of the user's in DOCKER-USER, or in FORWARD where there is no such chain, stops traffic.
func TestUserDecides(t *testing.T) {
	for _, chainName := range []string{"DOCKER-USER", "FORWARD"} {
		t.Run(chainName, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, backend string) {
				w := newWire(t, "wv-1")
				if chainName == "DOCKER-USER" {
					addDockerChains(t, backend)
				} else {
					shell(t, replaceBackend(foreignScripts["the policy, no Docker"], backend))
				}
				f, _ := newFirewall(t)
				start(t, f)
				must(t, f.Set(t.Context(), own(1)))
				w.checkTraffic(t, "with weave's rules", true)
				for _, cmd := range commands(backend) {
					run(t, "", cmd, "-A", chainName, "-i", "wv-1", "-m", "comment", "--comment", "mine", "-j", "DROP")
					if chainName == "DOCKER-USER" { // before the last one, which returns
						run(t, "", cmd, "-D", chainName, "1")
					}
				}
				must(t, f.Set(t.Context(), own(1)))
				w.checkTraffic(t, "with the user's drop", false)
				for _, cmd := range commands(backend) {
					run(t, "", cmd, "-D", chainName, "-i", "wv-1", "-m", "comment", "--comment", "mine", "-j", "DROP")
				}
				w.checkTraffic(t, "without it", true)
			})
		})
	}
}

// TestOneRuleForAll: however many networks there are, a frame meets one rule.
func TestOneRuleForAll(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		addDockerChains(t, backend)
		f, _ := newFirewall(t)
		must(t, f.Set(t.Context(), own(1)))
		before := len(forward(t, "iptables-"+backend))
		var many []Bridge
		for n := range 50 {
			many = append(many, own(n)...)
		}
		must(t, f.Set(t.Context(), many))
		if got := len(forward(t, "iptables-"+backend)); got != before {
			t.Errorf("%d rules with 50 networks, want %d as with one", got, before)
		}
	})
}

// TestEarlierVersion: its rules, one for each network, are replaced while traffic runs, and none of it is lost.
func TestEarlierVersion(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		w := newWire(t, "wv-1")
		shell(t, replaceBackend(dockerForward, backend))
		for _, cmd := range commands(backend) {
			run(t, "*filter\n-I FORWARD 2 "+before1+"-I FORWARD 2 "+before2+"COMMIT\n", cmd+"-restore", "--noflush")
			run(t, "", cmd, "-I", "DOCKER-FORWARD", "-i", "wv-1", "-j", "DROP") // counts what came too far
		}
		w.checkTraffic(t, "with an earlier version's rules", true)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var traffic sync.WaitGroup
		traffic.Go(func() {
			for ctx.Err() == nil {
				for _, v := range families {
					if err := w.traffic(t.Context(), t, v); err != nil {
						t.Errorf("while the rules are replaced: %v", err)
					}
				}
			}
		})
		f, _ := newFirewall(t)
		must(t, f.Set(t.Context(), own(1, 2)))
		cancel()
		traffic.Wait()
		for _, cmd := range commands(backend) {
			if diff := cmp.Diff(parse(all), parse(strings.Join(ours(forward(t, cmd)), "\n"))); diff != "" {
				t.Errorf("%s: weave's rules (-want +got):\n%s", cmd, diff)
			}
			counted := run(t, "", cmd, "-v", "-S", "DOCKER-FORWARD")
			if !strings.Contains(counted, "-i wv-1 -c 0 0 -j DROP") {
				t.Errorf("%s: frames met no rule of weave's: %s", cmd, counted)
			}
		}
	})
}

// TestTwoStates: two instances on one host need no agreement. Neither touches what the other one made, in whatever
// order they come and go; what a state left that has nothing on the host any more goes.
func TestTwoStates(t *testing.T) {
	eachBackend(t, func(t *testing.T, backend string) {
		w := newWire(t, "wv-1")
		shell(t, replaceBackend(dockerForward, backend))
		var living atomic.Pointer[map[string]bool] // the instances look while the test changes it
		living.Store(&map[string]bool{"aa": true, "bb": true, "cc": true})
		with := func(id string) *Firewall {
			f, _ := newFirewallWith(t, Options{
				StateID: id, Living: func() (map[string]bool, error) { return *living.Load(), nil },
			})
			return f
		}
		a, b, c := with("aa"), with("bb"), with("cc")
		must(t, c.Set(t.Context(), own(7)))
		start(t, a)
		start(t, b)
		must(t, a.Set(t.Context(), own(1)))
		must(t, b.Set(t.Context(), own(2)))
		must(t, a.Set(t.Context(), own(1, 3)))
		check := func(when string, ids ...string) {
			t.Helper()
			for _, cmd := range commands(backend) {
				var got []string
				for _, r := range ours(forward(t, cmd)) {
					id, _, _ := origin(splitRule(r))
					got = append(got, id)
				}
				slices.Sort(got)
				if !slices.Equal(got, ids) {
					t.Errorf("%s: %s has rules of %q, want %q", when, cmd, got, ids)
				}
			}
			for _, id := range []string{"aa", "bb", "cc"} {
				if got := strings.Contains(tables(t), "table ip weave-"+id); got != slices.Contains(ids, id) {
					t.Errorf("%s: %s has a table: %t", when, id, got)
				}
			}
		}
		check("all three", "aa", "bb", "cc")
		living.Store(&map[string]bool{"aa": true, "bb": true})
		must(t, a.Set(t.Context(), own(1)))
		check("one is gone", "aa", "bb")
		must(t, b.Set(t.Context(), nil))
		check("one has no network any more", "aa")
		w.checkTraffic(t, "of the other one", true)
		must(t, a.Set(t.Context(), nil))
		check("none has")
	})
}

func TestModes(t *testing.T) {
	for mode, want := range map[Mode]map[string]bool{
		Auto:     {"iptables-nft": true, "ip6tables-nft": true},
		IPv4Only: {"iptables-nft": true},
		IPv6Only: {"ip6tables-nft": true},
		Off:      {},
	} {
		t.Run(string(mode), func(t *testing.T) {
			if nstest.Reexec(t) {
				return
			}
			addDockerChains(t, "nft")
			before, _ := newFirewall(t) // an earlier process wrote rules for both
			must(t, before.Set(t.Context(), own(1)))
			f, _ := newFirewallWith(t, Options{Mode: mode})
			must(t, f.Set(t.Context(), own(1)))
			must(t, f.Problem())
			for _, cmd := range commands("nft") {
				if got := len(ours(forward(t, cmd))) > 0; got != want[cmd] {
					t.Errorf("%s has rules: %t, want %t", cmd, got, want[cmd])
				}
			}
			for table, cmd := range map[string]string{"ip": "iptables-nft", "ip6": "ip6tables-nft"} {
				if got := strings.Contains(tables(t), "table "+table+" weave-aa\n"); got != want[cmd] {
					t.Errorf("%s: own table: %t, want %t", table, got, want[cmd])
				}
			}
		})
	}
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
		var sets sync.WaitGroup
		for i := range 20 {
			wanted := named("br1", fmt.Sprintf("br2%02d", i), fmt.Sprintf("br3%02d", i))
			sets.Go(func() {
				if err := f.Set(t.Context(), wanted); err != nil {
					t.Error(err)
				}
			})
		}
		sets.Wait()
		cancel()
		other.Wait()
		last := f.currentTarget().bridges
		if len(last) != 3 || last[1].Name[len("br2"):] != last[2].Name[len("br3"):] {
			t.Errorf("the target's bridges are %+v, want one of the wanted sets", last)
		}
		for _, cmd := range commands(backend) {
			eventually(t, "the rules are the last set's", func() bool {
				var got []string
				for _, r := range ours(forward(t, cmd)) {
					got = append(got, option(splitRule(r), "-i"))
				}
				slices.Sort(got)
				return slices.Equal(got, []string{last[0].Name, last[1].Name, last[2].Name})
			})
		}
	})
}

func TestRefusedNamesChangeNothing(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), own(1)))
	before := run(t, "", "nft", "list", "ruleset")
	for _, bad := range []Bridge{{Name: "wv+", NetworkID: "n2"}, {Name: "wv-2", NetworkID: "a b"}} {
		if err := f.Set(t.Context(), append(own(1), bad)); err == nil {
			t.Errorf("Set accepts %+v", bad)
		}
	}
	if diff := cmp.Diff(own(1), f.currentTarget().bridges); diff != "" {
		t.Errorf("wanted (-want +got):\n%s", diff)
	}
	must(t, f.Problem())
	if after := run(t, "", "nft", "list", "ruleset"); after != before {
		t.Errorf("rules before\n%s\nafter\n%s", before, after)
	}
	if _, err := New(Options{StateID: "a:b", Log: f.log}); err == nil {
		t.Error("New accepts a state id with a colon")
	}
}

// TestNothingBeforeTheFirstSet: what an earlier process left behind stays until it is known what is wanted.
func TestNothingBeforeTheFirstSet(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	for _, backend := range iptablesBackends {
		for _, cmd := range commands(backend) {
			run(t, "*filter\n:FORWARD -\n-A FORWARD "+before1+"COMMIT\n", cmd+"-restore")
		}
	}
	before := run(t, "", "nft", "list", "ruleset") + run(t, "", "iptables-legacy-save", "-t", "filter")
	f, _ := newFirewall(t)
	must(t, f.repair(t.Context()))
	f.legacyChanged(t.Context())
	got := run(t, "", "nft", "list", "ruleset") + run(t, "", "iptables-legacy-save", "-t", "filter")
	strip := func(s string) []string {
		return slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return strings.HasPrefix(l, "#") })
	}
	if diff := cmp.Diff(strip(before), strip(got)); diff != "" {
		t.Errorf("a repair before the first Set changed rules (-before +after):\n%s", diff)
	}
}

// TestSetEndsWithItsContext: what it could not do, Run does, and be it that the last rule is removed.
func TestSetEndsWithItsContext(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	f, _ := newFirewall(t)
	must(t, f.Set(t.Context(), own(1)))

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
	if got := tables(t); strings.Contains(got, "weave") {
		t.Errorf("tables left: %s", got)
	}
}

// TestResultForAnEarlierTarget: it says nothing about the present one.
func TestResultForAnEarlierTarget(t *testing.T) {
	for _, result := range []error{nil, errors.New("disk on fire")} {
		f, _ := newFirewall(t)
		f.setTarget(own(1))
		earlier := f.currentTarget()
		f.setTarget(own(2))
		f.record(f.currentTarget(), errors.ErrUnsupported)
		f.record(earlier, result)
		if got := f.currentTarget(); cmp.Diff(got.bridges, own(2)) != "" || !got.owner.networks["n1"] {
			t.Errorf("%v changes the target to %+v", result, got)
		}
		if err := f.Problem(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v changes the problem to %v", result, err)
		}
	}
}
