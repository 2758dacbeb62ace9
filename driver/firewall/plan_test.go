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
	docker20 = `-j DOCKER-USER
-j DOCKER-ISOLATION-STAGE-1
-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-o docker0 -j DOCKER
-i docker0 ! -o docker0 -j ACCEPT
-i docker0 -o docker0 -j ACCEPT
`
	docker28 = `-j DOCKER-USER
-j DOCKER-FORWARD
`
	raw28 = `-d 172.18.0.2/32 ! -i br-4d1 -j DROP
-d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 8080 -j DROP
`
)

const (
	all     = `-i wv-+ -o wv-+ -m physdev --physdev-is-bridged -m comment --comment "weave:aa" -j ACCEPT` + "\n"
	theirs  = `-i wv-+ -o wv-+ -m physdev --physdev-is-bridged -m comment --comment "weave:bb" -j ACCEPT` + "\n"
	gone    = `-i wv-+ -o wv-+ -m physdev --physdev-is-bridged -m comment --comment "weave:old" -j ACCEPT` + "\n"
	br0     = `-i br0 -o br0 -m physdev --physdev-is-bridged -m comment --comment "weave:aa:br0" -j ACCEPT` + "\n"
	before1 = `-i wv-1 -o wv-1 -m comment --comment "weave:aa:n1" -j ACCEPT` + "\n" // of versions with a rule for each
	before2 = `-i wv-2 -o wv-2 -m comment --comment "weave:aa:n2" -j ACCEPT` + "\n"
	theirs9 = `-i wv-9 -o wv-9 -m comment --comment "weave:bb:n9" -j ACCEPT` + "\n"
	lost1   = `-i wv-1 -o wv-1 -m comment --comment "weave:bb:n1" -j ACCEPT` + "\n"
	rawAll  = `-i wv-+ -m comment --comment "weave:aa" -j ACCEPT` + "\n"
	drop    = "-s 10.0.0.0/8 -j DROP\n"
	accept  = "-i br9 -j ACCEPT\n"
	rest    = `-m comment --comment "the rest" -j REJECT --reject-with icmp-port-unreachable` + "\n"
	looks   = `-i wv-+ -o wv-+ -m comment --comment "not \"weave:aa" -j ACCEPT` + "\n"
)

func TestPlan(t *testing.T) {
	user := "-j DOCKER-USER\n"
	after := func(chain, rules string) string { return strings.Replace(chain, user, user+rules, 1) } // the jump
	both := append(own(1, 2), named("br0")...)

	for name, tt := range map[string]struct {
		kind   kind
		chain  string
		wanted []Bridge
		want   string
	}{
		"Docker 20.10":           {chain: docker20, wanted: own(1, 2), want: after(docker20, all)},
		"Docker 28":              {chain: docker28, wanted: own(1), want: after(docker28, all)},
		"a bridge of the user's": {chain: docker28, wanted: both, want: after(docker28, br0+all)},
		"nothing wanted":         {chain: docker28, want: docker28},
		"in place":               {chain: after(docker28, all), wanted: own(1), want: after(docker28, all)},
		"one more":               {chain: after(docker28, all), wanted: both, want: after(docker28, br0+all)},
		"one less":               {chain: after(docker28, all+br0), wanted: own(2), want: after(docker28, all)},
		"all gone":               {chain: after(docker28, all+br0), want: docker28},
		"after Docker's":         {chain: docker28 + all, wanted: own(1), want: after(docker28, all)},
		"before the user's":      {chain: all + docker28, wanted: own(1), want: after(docker28, all)},
		"isolation put between": {
			chain: after(docker28, "-j X\n"+all), wanted: own(1),
			want: after(docker28, all+"-j X\n"),
		},
		"a drop put between": {
			chain: after(docker28, drop+all), wanted: own(1),
			want: after(docker28, all+drop),
		},
		"an accept between": {
			chain: after(docker28, accept+all), wanted: own(1),
			want: after(docker28, accept+all),
		},
		"user's rules before a jump": {chain: drop + docker28, wanted: own(1), want: drop + after(docker28, all)},
		"a conditional jump": {
			chain: "-i eth0 " + docker28, wanted: own(1),
			want: "-i eth0 " + docker28 + all,
		},
		"a jump with a comment": {
			chain: "-m comment --comment x " + docker28, wanted: own(1),
			want: "-m comment --comment x " + after(docker28, all),
		},
		"twice":                        {chain: after(docker28, all+all), wanted: own(1), want: after(docker28, all)},
		"twice, once in a wrong place": {chain: after(docker28, all) + all, wanted: own(1), want: after(docker28, all)},
		"of another shape": {
			chain: after(docker28, strings.Replace(all, "ACCEPT", "DROP", 1)), wanted: own(1),
			want: after(docker28, all),
		},
		"negated":                      {chain: after(docker28, "! "+all), wanted: own(1), want: after(docker28, all)},
		"a comment that only holds it": {chain: docker28 + looks, want: docker28 + looks},

		"no Docker":                 {wanted: own(1), want: all},
		"only the user's rules":     {chain: drop, wanted: own(1), want: drop + all},
		"the user adds one":         {chain: all + drop, wanted: own(1), want: drop + all},
		"the user adds an accept":   {chain: all + accept, wanted: own(1), want: all + accept},
		"the user refuses the rest": {chain: drop + rest, wanted: own(1), want: drop + all + rest},
		"the rest is refused later": {chain: drop + all + rest, wanted: own(1), want: drop + all + rest},
		"after the rest":            {chain: drop + rest + all, wanted: own(1), want: drop + all + rest},
		"what follows the rest":     {chain: rest + drop, wanted: own(1), want: all + rest + drop},

		"earlier version, one for each": {
			chain: after(docker28, before1+before2), wanted: own(1, 2),
			want: after(docker28, all),
		},
		"earlier version, one now another's": {
			chain: after(docker28, before1+lost1), wanted: own(1),
			want: after(docker28, all),
		},
		"earlier version, nothing wanted": {chain: after(docker28, before1), want: docker28},
		"another state's": {
			chain: after(docker28, theirs), wanted: own(1),
			want: after(docker28, all+theirs),
		},
		"another state's first": {
			chain: after(docker28, theirs+all), wanted: own(1),
			want: after(docker28, theirs+all),
		},
		"another state's, nothing wanted": {
			chain: after(docker28, theirs+all+theirs9),
			want:  after(docker28, theirs+theirs9),
		},
		"another state's for our network": {
			chain: after(docker28, theirs9+lost1), wanted: own(1),
			want: after(docker28, all+theirs9),
		},
		"a state that is gone": {
			chain: after(docker28, gone+theirs), wanted: own(1),
			want: after(docker28, all+theirs),
		},
		"a state that is gone, nothing": {chain: after(docker28, gone+theirs), want: after(docker28, theirs)},
		"a state id that begins with ours": {
			chain: after(docker28, strings.Replace(all, ":aa", ":aab", 1)),
			want:  after(docker28, strings.Replace(all, ":aa", ":aab", 1)),
		},

		"raw":                         {kind: prerouting, wanted: own(1), want: rawAll},
		"raw, a bridge of the user's": {kind: prerouting, wanted: both, want: rawAll},
		"raw, weave's own by the user's name": {
			kind: prerouting, wanted: []Bridge{{Name: "lan0", NetworkID: "n5"}},
			want: `-i lan0 -m comment --comment "weave:aa:n5" -j ACCEPT` + "\n",
		},
		"raw, before Docker's": {kind: prerouting, chain: raw28, wanted: own(1), want: rawAll + raw28},
		"raw, after Docker's":  {kind: prerouting, chain: raw28 + rawAll, wanted: own(1), want: rawAll + raw28},
		"raw, after the user's": {
			kind: prerouting, chain: drop + raw28, wanted: own(1),
			want: drop + rawAll + raw28,
		},
		"raw, the user adds one": {kind: prerouting, chain: rawAll + drop, wanted: own(1), want: drop + rawAll},
	} {
		t.Run(name, func(t *testing.T) {
			chain, wanted := parse(tt.chain), tt.kind.rulesFor(subjects(tt.wanted, "aa"), nil)
			e := plan(chain, wanted, tt.kind, ownerOf("aa", tt.wanted))
			got := apply(chain, e)
			if diff := cmp.Diff(parse(tt.want), got); diff != "" {
				t.Errorf("chain (-want +got):\n%s", diff)
			}
			if again := plan(got, wanted, tt.kind, ownerOf("aa", tt.wanted)); !again.empty() {
				t.Errorf("a second plan has %+v, want nothing", again)
			}
		})
	}
}

func TestPlanNamesTheLinks(t *testing.T) {
	chain := parse(docker28 + all + before1)
	wanted := append(own(1), named("br0")...)
	e := plan(chain, forwarding.rulesFor(subjects(wanted, "aa"), nil), forwarding, ownerOf("aa", wanted))
	got := [][]string{e.missing, e.moved, e.removed}
	if diff := cmp.Diff([][]string{{"br0"}, {"wv-+"}, {"wv-1"}}, got); diff != "" {
		t.Errorf("missing, moved, removed (-want +got):\n%s", diff)
	}
}

// TestPlanFromAnyOrder shuffles a chain with the rules of two instances: one plan of each instance mends it, nothing
// else moves, and after that neither instance changes anything.
func TestPlanFromAnyOrder(t *testing.T) {
	wanted := map[string][]Bridge{"aa": append(own(1, 2), named("br0")...), "bb": append(own(9), named("br1")...)}
	wanted["bb"] = append(wanted["bb"], Bridge{Name: "br0", NetworkID: "n8", Foreign: true}) // both may use one bridge
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		got := parse(docker20 + all + all + br0 + theirs + before1 + looks + drop + rest + raw28 + accept)
		got = got[:rng.IntN(len(got)+1)]
		rng.Shuffle(len(got), func(i, j int) { got[i], got[j] = got[j], got[i] })
		foreign := foreignRules(got)
		for _, k := range []kind{forwarding, prerouting} {
			for _, id := range []string{"aa", "bb"} {
				got = apply(got, plan(got, k.rulesFor(subjects(wanted[id], id), nil), k, ownerOf(id, wanted[id])))
			}
			if diff := cmp.Diff(foreign, foreignRules(got)); diff != "" {
				t.Fatalf("seed %d: foreign rules (-before +after):\n%s", seed, diff)
			}
			count := 0
			for id, bridges := range wanted {
				rules := k.rulesFor(subjects(bridges, id), nil)
				if e := plan(got, rules, k, ownerOf(id, bridges)); !e.empty() {
					t.Fatalf("seed %d: instance %s still changes\n%q\nby %+v", seed, id, got, e)
				}
				count += len(rules)
			}
			if n := len(got) - len(foreign); n != count {
				t.Fatalf("seed %d: %d rules of weave's, want %d", seed, n, count)
			}
		}
	}
}

func FuzzPlan(f *testing.F) {
	for _, s := range []string{
		docker20 + all, docker28 + theirs + looks + lost1, all + all + drop + before2, rest, raw28,
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	bridges := append(own(1), named("br0")...)
	o := ownerOf("aa", bridges)
	f.Fuzz(func(t *testing.T, text string, raw bool) {
		k := map[bool]kind{false: forwarding, true: prerouting}[raw]
		wanted := k.rulesFor(subjects(bridges, "aa"), nil)
		before := parse(text)
		got := apply(before, plan(before, wanted, k, o))
		if e := plan(got, wanted, k, o); !e.empty() {
			t.Errorf("a second plan has %+v, want nothing", e)
		}
		others := func(chain [][]string) [][]string {
			return slices.DeleteFunc(append([][]string{}, chain...), o.owns)
		}
		if diff := cmp.Diff(others(before), others(got)); diff != "" {
			t.Errorf("rules of others (-before +after):\n%s", diff)
		}
		if n := len(got) - len(others(got)); n != len(wanted) {
			t.Errorf("%d rules, want %d", n, len(wanted))
		}
	})
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("f", 64)
	for _, ok := range [][2]string{{"wv-0123456789ab", long}, {"br0.10", "n1"}, {"_x", "0"}} {
		if err := (Bridge{Name: ok[0], NetworkID: ok[1]}).validate(); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range [][2]string{
		{"", "n1"}, {long + "f", "n1"}, {"-j", "n1"}, {"..", "n1"}, {"wv+", "n1"}, {"a b", "n1"}, {"a\nb", "n1"},
		{"a\n", "n1"}, {"!a", "n1"},
		{"wv-1", ""}, {"wv-1", long + "f"}, {"wv-1", "a:b"}, {"wv-1", `a"`}, {"wv-1", "a\n"}, {"wv-1", "-j"},
	} {
		if err := (Bridge{Name: bad[0], NetworkID: bad[1]}).validate(); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// ownerOf returns the owner that is the state with this id and wants these bridges' rules. All states are alive but
// the one called old.
func ownerOf(stateID string, bridges []Bridge) owner {
	o := newTarget(stateID, bridges, Tunnel{}).owner
	o.living = func() map[string]bool { return map[string]bool{"aa": true, "aab": true, "bb": true} }
	return o
}

// parse reads a chain: a rule a line, without -A and the chain's name.
func parse(text string) [][]string {
	var chain [][]string
	for line := range strings.Lines(text) {
		if args := splitRule(strings.TrimSuffix(line, "\n")); len(args) > 0 {
			chain = append(chain, args)
		}
	}
	return chain
}

// apply returns a chain as it is after an edit.
func apply(chain [][]string, e edit) [][]string {
	var out [][]string
	for i := range len(chain) + 1 {
		if i == e.before {
			for _, r := range e.add {
				out = append(out, r.args())
			}
		}
		if i < len(chain) && !slices.Contains(e.remove, i) {
			out = append(out, chain[i])
		}
	}
	return out
}

func foreignRules(chain [][]string) [][]string {
	return slices.DeleteFunc(slices.Clone(chain), func(args []string) bool {
		_, _, ours := origin(args)
		return ours
	})
}
