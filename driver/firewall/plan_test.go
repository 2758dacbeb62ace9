// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Chains as these versions of Docker make them, with one network of the bridge driver besides docker0.
const (
	docker20 = `-P FORWARD DROP
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A FORWARD -o br-4d1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o br-4d1 -j DOCKER
-A FORWARD -i br-4d1 ! -o br-4d1 -j ACCEPT
-A FORWARD -i br-4d1 -o br-4d1 -j ACCEPT
`
	docker26 = docker20 // 26.1 has the same
	docker28 = `-P FORWARD DROP
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
`
	noDocker = "-P FORWARD ACCEPT\n"
)

const (
	ours1     = `-A FORWARD -i wv-1 -o wv-1 -m comment --comment "weave:aa:n1" -j ACCEPT` + "\n"
	ours2     = `-A FORWARD -i wv-2 -o wv-2 -m comment --comment "weave:aa:n2" -j ACCEPT` + "\n"
	theirs1   = `-A FORWARD -i wv-9 -o wv-9 -m comment --comment "weave:bb:n9" -j ACCEPT` + "\n"
	earlier1  = `-A FORWARD -i wv-1 -o wv-1 -m comment --comment "weave:bb:n1" -j ACCEPT` + "\n"
	drop      = "-A FORWARD -s 10.0.0.0/8 -j DROP\n"
	lookalike = `-A FORWARD -i wv-1 -o wv-1 -m comment --comment "not \"weave:aa:n1" -j ACCEPT` + "\n"
)

func TestPlan(t *testing.T) {
	user := "-A FORWARD -j DOCKER-USER\n"
	both := map[string]string{"wv-1": "n1", "wv-2": "n2"}
	one := map[string]string{"wv-1": "n1"}
	after := func(chain, rules string) string { return strings.Replace(chain, user, user+rules, 1) } // the jump

	tests := []struct {
		name   string
		chain  string
		wanted map[string]string
		want   string
	}{
		{"Docker 20.10", docker20, both, after(docker20, ours1+ours2)},
		{"Docker 26.1", docker26, both, after(docker26, ours1+ours2)},
		{"Docker 28.5", docker28, both, after(docker28, ours1+ours2)},
		{"no Docker, at the head", noDocker + drop, both, noDocker + ours1 + ours2 + drop},
		{"no chain", "", one, ours1},
		{"nothing wanted", docker28, nil, docker28},
		{"in place", after(docker28, ours2+ours1), both, after(docker28, ours2+ours1)},
		{"one more", after(docker28, ours2), both, after(docker28, ours1+ours2)},
		{"one less", after(docker28, ours2+ours1), one, after(docker28, ours1)},
		{"all gone", after(docker28, ours1+ours2), nil, docker28},
		{"after Docker's", docker28 + ours1, one, after(docker28, ours1)},
		{"before the user's", ours1 + docker28, one, after(docker28, ours1)},
		{"both sides of the jump", ours1 + docker28 + ours2, both, after(docker28, ours1+ours2)},
		{"jump inserted anew at the head", user + ours1 + drop, one, user + ours1 + drop},
		{"isolation put between", after(docker20, "-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n"+ours1), one,
			after(docker20, ours1+"-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n")},
		{"a drop put between", after(docker28, drop+ours1), one, after(docker28, ours1+drop)},
		{"a drop between two", after(docker28, ours1+drop+ours2), both, after(docker28, ours2+ours1+drop)},
		{"an accept between does no harm", after(docker28, "-A FORWARD -i br0 -j ACCEPT\n"+ours1), one,
			after(docker28, "-A FORWARD -i br0 -j ACCEPT\n"+ours1)},
		{"a goto between", after(docker28, "-A FORWARD -g LATER\n"+ours1), one,
			after(docker28, ours1+"-A FORWARD -g LATER\n")},
		{"the user's rules before the jump stay there", drop + after(docker28, ours1), one,
			drop + after(docker28, ours1)},
		{"another jump to DOCKER-USER is no anchor", "-A FORWARD -i eth0 -j DOCKER-USER\n" + docker28, one,
			"-A FORWARD -i eth0 -j DOCKER-USER\n" + after(docker28, ours1)},
		{"twice", after(docker28, ours1+ours1), one, after(docker28, ours1)},
		{"twice, once after Docker's", after(docker28, ours1) + ours1, one, after(docker28, ours1)},
		{"twice and not wanted", after(docker28, ours1+ours1), nil, docker28},
		{"of another network", after(docker28, strings.Replace(ours1, "n1", "n7", 1)), one, after(docker28, ours1)},
		{"of another shape", after(docker28, strings.Replace(ours1, "ACCEPT", "DROP", 1)), one, after(docker28, ours1)},
		{"negated", after(docker28, strings.Replace(ours1, "-i wv-1", "! -i wv-1", 1)), one, after(docker28, ours1)},
		{"unquoted comment", after(docker28, strings.ReplaceAll(ours1, `"`, "")), one,
			after(docker28, strings.ReplaceAll(ours1, `"`, ""))},
		{"another instance's", after(docker28, theirs1), one, after(docker28, ours1+theirs1)},
		{"another instance's first", after(docker28, theirs1+ours1), one, after(docker28, theirs1+ours1)},
		{"another instance's, nothing wanted", after(docker28, theirs1+ours1), nil, after(docker28, theirs1)},
		{"another state's for a network of ours", after(docker28, earlier1), one, after(docker28, ours1)},
		{"another state's beside ours", after(docker28, earlier1+ours1+earlier1), one, after(docker28, ours1)},
		{"another state's on another bridge", after(docker28, strings.ReplaceAll(earlier1, "wv-1", "br0")), one,
			after(docker28, ours1)},
		{"another state's for a network whose id begins with ours",
			after(docker28, strings.Replace(earlier1, ":n1", ":n11", 1)), one,
			after(docker28, ours1+strings.Replace(earlier1, ":n1", ":n11", 1))},
		{"another state's, nothing wanted", after(docker28, earlier1), nil, after(docker28, earlier1)},
		{"no state in the comment", after(docker28, strings.Replace(earlier1, ":bb:", ":", 1)), one,
			after(docker28, ours1+strings.Replace(earlier1, ":bb:", ":", 1))},
		{"a state id that begins with ours", after(docker28, strings.Replace(ours1, ":aa:", ":aab:", 1)), nil,
			after(docker28, strings.Replace(ours1, ":aa:", ":aab:", 1))},
		{"a comment that only holds ours", docker28 + lookalike, nil, docker28 + lookalike},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := plan(lines(tt.chain), tt.wanted, ownerOf("aa", tt.wanted))
			got := apply(t, lines(tt.chain), c.commands)
			if diff := cmp.Diff(normal(lines(tt.want)), normal(got)); diff != "" {
				t.Errorf("chain (-want +got):\n%s", diff)
			}
			if again := plan(got, tt.wanted, ownerOf("aa", tt.wanted)); len(again.commands) > 0 {
				t.Errorf("a second plan has %q, want nothing", again.commands)
			}
		})
	}
}

func TestPlanNamesTheBridges(t *testing.T) {
	chain := docker28 + ours1 + strings.ReplaceAll(ours2, "wv-2", "wv-3")
	wanted := map[string]string{"wv-1": "n1", "wv-2": "n2"}
	c := plan(lines(chain), wanted, ownerOf("aa", wanted))
	got := [][]string{c.missing, c.moved, c.removed}
	want := [][]string{{"wv-2"}, {"wv-1"}, {"wv-3"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("missing, moved, removed (-want +got):\n%s", diff)
	}
}

// TestPlanFromAnyOrder shuffles a chain with the rules of two instances: one plan of each instance mends it, nothing
// else moves, and after that neither instance changes anything.
func TestPlanFromAnyOrder(t *testing.T) {
	wantA := map[string]string{"wv-1": "n1", "wv-2": "n2", "wv-3": "n3"}
	wantB := map[string]string{"wv-9": "n9", "wv-1": "n8"} // two instances may use the same bridge
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		chain := lines(docker20 + ours1 + ours1 + ours2 + theirs1 + lookalike + drop)[1:]
		chain = chain[:rng.IntN(len(chain)+1)]
		rng.Shuffle(len(chain), func(i, j int) { chain[i], chain[j] = chain[j], chain[i] })
		foreign := foreignRules(chain)

		got := apply(t, chain, plan(chain, wantA, ownerOf("aa", wantA)).commands)
		got = apply(t, got, plan(got, wantB, ownerOf("bb", wantB)).commands)
		if diff := cmp.Diff(foreign, foreignRules(got)); diff != "" {
			t.Fatalf("seed %d: foreign rules (-before +after):\n%s", seed, diff)
		}
		for id, wanted := range map[string]map[string]string{"aa": wantA, "bb": wantB} {
			if c := plan(got, wanted, ownerOf(id, wanted)); len(c.commands) > 0 {
				t.Fatalf("seed %d: instance %s still changes\n%s\nby %q", seed, id, strings.Join(got, "\n"), c.commands)
			}
			if diff := cmp.Diff(wanted, owned(got, id)); diff != "" {
				t.Fatalf("seed %d: rules of instance %s (-want +got):\n%s", seed, id, diff)
			}
		}
		if n := len(got) - len(foreign); n != len(wantA)+len(wantB) {
			t.Fatalf("seed %d: %d rules of weave's, want %d", seed, n, len(wantA)+len(wantB))
		}
		assertPlace(t, got)
	}
}

// assertPlace fails the test if a rule of weave's is before the jump to the user's rules, or after a later rule that
// can take packets away from it.
func assertPlace(t *testing.T, chain []string) {
	t.Helper()
	danger := ""
	for _, r := range chain[slices.Index(chain, userJump)+1:] {
		switch {
		case isWeave(r) && danger != "":
			t.Fatalf("%s\nis after\n%s", r, danger)
		case !strings.HasSuffix(r, "-j ACCEPT"):
			danger = r
		}
	}
	for _, r := range chain[:slices.Index(chain, userJump)+1] {
		if isWeave(r) {
			t.Fatalf("%s\nis before the user's rules", r)
		}
	}
}

func FuzzPlan(f *testing.F) {
	for _, s := range []string{
		docker20 + ours1, docker28 + theirs1 + lookalike + earlier1, ours1 + ours1 + drop + ours2, noDocker,
	} {
		f.Add(s)
	}
	wanted := map[string]string{"wv-1": "n1", "wv-2": "n2"}
	o := ownerOf("aa", wanted)
	f.Fuzz(func(t *testing.T, chain string) {
		before := lines(chain)
		got := apply(t, before, plan(before, wanted, o).commands)
		if c := plan(got, wanted, o); len(c.commands) > 0 {
			t.Errorf("a second plan has %q, want nothing", c.commands)
		}
		if diff := cmp.Diff(wanted, owned(got, "aa")); diff != "" {
			t.Errorf("rules (-want +got):\n%s", diff)
		}
		others := func(chain []string) (out [][]string) {
			for _, line := range chain {
				if args := splitRule(line); strings.HasPrefix(line, "-A FORWARD ") && !o.owns(args) {
					out = append(out, args)
				}
			}
			return out
		}
		if diff := cmp.Diff(others(before), others(got)); diff != "" {
			t.Errorf("rules of others (-before +after):\n%s", diff)
		}
	})
}
