package firewall

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Chains as Engines make them, with one network of the bridge driver besides docker0.
const (
	engine20 = `-P FORWARD DROP
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
	engine26 = engine20 // 26.1 has the same
	engine28 = `-P FORWARD DROP
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
`
	noEngine = "-P FORWARD ACCEPT\n"
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
	behind := func(engine, rules string) string { return strings.Replace(engine, user, user+rules, 1) }

	tests := []struct {
		name   string
		chain  string
		wanted map[string]string
		want   string
	}{
		{"engine 20.10", engine20, both, behind(engine20, ours1+ours2)},
		{"engine 26.1", engine26, both, behind(engine26, ours1+ours2)},
		{"engine 28.5", engine28, both, behind(engine28, ours1+ours2)},
		{"no engine, at the head", noEngine + drop, both, noEngine + ours1 + ours2 + drop},
		{"no chain", "", one, ours1},
		{"nothing wanted", engine28, nil, engine28},
		{"in place", behind(engine28, ours2+ours1), both, behind(engine28, ours2+ours1)},
		{"one more", behind(engine28, ours2), both, behind(engine28, ours1+ours2)},
		{"one less", behind(engine28, ours2+ours1), one, behind(engine28, ours1)},
		{"all gone", behind(engine28, ours1+ours2), nil, engine28},
		{"behind Docker's", engine28 + ours1, one, behind(engine28, ours1)},
		{"before the user's", ours1 + engine28, one, behind(engine28, ours1)},
		{"both sides of the jump", ours1 + engine28 + ours2, both, behind(engine28, ours1+ours2)},
		{"jump inserted anew at the head", user + ours1 + drop, one, user + ours1 + drop},
		{"isolation put between", behind(engine20, "-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n"+ours1), one,
			behind(engine20, ours1+"-A FORWARD -j DOCKER-ISOLATION-STAGE-1\n")},
		{"a drop put between", behind(engine28, drop+ours1), one, behind(engine28, ours1+drop)},
		{"a drop between two", behind(engine28, ours1+drop+ours2), both, behind(engine28, ours2+ours1+drop)},
		{"an accept between does no harm", behind(engine28, "-A FORWARD -i br0 -j ACCEPT\n"+ours1), one,
			behind(engine28, "-A FORWARD -i br0 -j ACCEPT\n"+ours1)},
		{"a goto between", behind(engine28, "-A FORWARD -g LATER\n"+ours1), one, behind(engine28, ours1+"-A FORWARD -g LATER\n")},
		{"the user's rules before the jump stay there", drop + behind(engine28, ours1), one, drop + behind(engine28, ours1)},
		{"another jump to DOCKER-USER is no anchor", "-A FORWARD -i eth0 -j DOCKER-USER\n" + engine28, one,
			"-A FORWARD -i eth0 -j DOCKER-USER\n" + behind(engine28, ours1)},
		{"twice", behind(engine28, ours1+ours1), one, behind(engine28, ours1)},
		{"twice, once behind", behind(engine28, ours1) + ours1, one, behind(engine28, ours1)},
		{"twice and not wanted", behind(engine28, ours1+ours1), nil, engine28},
		{"of another network", behind(engine28, strings.Replace(ours1, "n1", "n7", 1)), one, behind(engine28, ours1)},
		{"of another shape", behind(engine28, strings.Replace(ours1, "ACCEPT", "DROP", 1)), one, behind(engine28, ours1)},
		{"negated", behind(engine28, strings.Replace(ours1, "-i wv-1", "! -i wv-1", 1)), one, behind(engine28, ours1)},
		{"unquoted comment", behind(engine28, strings.ReplaceAll(ours1, `"`, "")), one, behind(engine28, strings.ReplaceAll(ours1, `"`, ""))},
		{"another instance's", behind(engine28, theirs1), one, behind(engine28, ours1+theirs1)},
		{"another instance's first", behind(engine28, theirs1+ours1), one, behind(engine28, theirs1+ours1)},
		{"another instance's, nothing wanted", behind(engine28, theirs1+ours1), nil, behind(engine28, theirs1)},
		{"another state's for a network of ours", behind(engine28, earlier1), one, behind(engine28, ours1)},
		{"another state's beside ours", behind(engine28, earlier1+ours1+earlier1), one, behind(engine28, ours1)},
		{"another state's on another bridge", behind(engine28, strings.ReplaceAll(earlier1, "wv-1", "br0")), one, behind(engine28, ours1)},
		{"another state's for a network whose id begins with ours", behind(engine28, strings.Replace(earlier1, ":n1", ":n11", 1)), one,
			behind(engine28, ours1+strings.Replace(earlier1, ":n1", ":n11", 1))},
		{"another state's, nothing wanted", behind(engine28, earlier1), nil, behind(engine28, earlier1)},
		{"no state in the comment", behind(engine28, strings.Replace(earlier1, ":bb:", ":", 1)), one,
			behind(engine28, ours1+strings.Replace(earlier1, ":bb:", ":", 1))},
		{"a state id that begins with ours", behind(engine28, strings.Replace(ours1, ":aa:", ":aab:", 1)), nil,
			behind(engine28, strings.Replace(ours1, ":aa:", ":aab:", 1))},
		{"a comment that only holds ours", engine28 + lookalike, nil, engine28 + lookalike},
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

func TestPlanTellsWhatWasWrong(t *testing.T) {
	chain := engine28 + ours1 + strings.ReplaceAll(ours2, "wv-2", "wv-3")
	wanted := map[string]string{"wv-1": "n1", "wv-2": "n2"}
	c := plan(lines(chain), wanted, ownerOf("aa", wanted))
	got := [][]string{c.missing, c.moved, c.removed}
	want := [][]string{{"wv-2"}, {"wv-1"}, {"wv-3"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("missing, moved, removed (-want +got):\n%s", diff)
	}
}

// TestPlanFromAnyOrder shuffles the chain, with the rules of two instances in it: one plan of each instance mends it,
// nothing else moves, and then both are content.
func TestPlanFromAnyOrder(t *testing.T) {
	wantA := map[string]string{"wv-1": "n1", "wv-2": "n2", "wv-3": "n3"}
	wantB := map[string]string{"wv-9": "n9", "wv-1": "n8"} // an instance may be told to use the same bridge
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 0))
		chain := lines(engine20 + ours1 + ours1 + ours2 + theirs1 + lookalike + drop)[1:]
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
				t.Fatalf("seed %d: instance %s is not content with\n%s\nand wants %q", seed, id, strings.Join(got, "\n"), c.commands)
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

// assertPlace fails the test if a rule of weave's comes after one that can take packets away from it, but the user's.
func assertPlace(t *testing.T, chain []string) {
	t.Helper()
	danger := ""
	for _, r := range chain[slices.Index(chain, userJump)+1:] {
		switch {
		case isWeave(r) && danger != "":
			t.Fatalf("%s\nstands behind\n%s", r, danger)
		case !strings.HasSuffix(r, "-j ACCEPT"):
			danger = r
		}
	}
	for _, r := range chain[:slices.Index(chain, userJump)+1] {
		if isWeave(r) {
			t.Fatalf("%s\nstands before the user's rules", r)
		}
	}
}

func TestSplitRule(t *testing.T) {
	for line, want := range map[string][]string{
		``:                                 nil,
		`-A FORWARD -j ACCEPT`:             {"-A", "FORWARD", "-j", "ACCEPT"},
		`--comment "a b" -j X`:             {"--comment", "a b", "-j", "X"},
		`--comment "" -j X`:                {"--comment", "", "-j", "X"},
		`--comment "say \"a\\b\" -j" -j X`: {"--comment", `say "a\b" -j`, "-j", "X"},
		`--comment "open`:                  {"--comment", "open"},
		`a  b `:                            {"a", "b"},
	} {
		if diff := cmp.Diff(want, splitRule(line)); diff != "" {
			t.Errorf("splitRule(%q) (-want +got):\n%s", line, diff)
		}
	}
}

func TestHoldsEngine(t *testing.T) {
	for chain, want := range map[string]bool{
		engine20: true, engine28: true, noEngine: false,
		"-A FORWARD -o docker0 -j DOCKER":                       true,
		`-A FORWARD -m comment --comment "-j DOCKER" -j ACCEPT`: false,
	} {
		if got := holdsEngine(lines(chain)); got != want {
			t.Errorf("holdsEngine(%q) = %t, want %t", chain, got, want)
		}
	}
}

func TestValidate(t *testing.T) {
	long := strings.Repeat("f", 64)
	for _, ok := range [][2]string{{"wv-0123456789ab", long}, {"br0.10", "n1"}, {"_x", "0"}} {
		if err := validate(ok[0], ok[1]); err != nil {
			t.Errorf("validate(%q, %q): %v", ok[0], ok[1], err)
		}
	}
	for _, bad := range [][2]string{
		{"", "n1"}, {"wv-0123456789abc", "n1"}, {"-j", "n1"}, {"..", "n1"}, {"wv+", "n1"}, {"a b", "n1"}, {"a\nb", "n1"}, {"a\n", "n1"},
		{"!a", "n1"}, {"wv-1", ""}, {"wv-1", long + "f"}, {"wv-1", "a:b"}, {"wv-1", `a"`}, {"wv-1", "a\n"},
	} {
		if err := validate(bad[0], bad[1]); err == nil {
			t.Errorf("validate(%q, %q): no error", bad[0], bad[1])
		}
	}
}

func FuzzPlan(f *testing.F) {
	for _, s := range []string{engine20 + ours1, engine28 + theirs1 + lookalike + earlier1, ours1 + ours1 + drop + ours2, noEngine} {
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

// ownerOf is the state with this id that wants these rules.
func ownerOf(stateID string, wanted map[string]string) owner {
	return (&Firewall{stateID: stateID, wanted: wanted}).owner()
}

// apply does to a chain what iptables-restore does with the commands, and lists it as iptables -S does.
func apply(t *testing.T, chain, commands []string) []string {
	t.Helper()
	var out []string
	for _, line := range chain {
		if strings.HasPrefix(line, "-A FORWARD ") {
			out = append(out, line)
		}
	}
	for _, c := range commands {
		args := splitRule(c)
		switch args[0] {
		case "-D":
			same := func(rule string) bool { return slices.Equal(splitRule(rule)[1:], args[1:]) }
			i := slices.IndexFunc(out, same)
			if i < 0 {
				t.Fatalf("%s: no such rule", c)
			}
			out = slices.Delete(out, i, i+1)
		case "-I":
			n, err := strconv.Atoi(args[2])
			if err != nil || n < 1 || n > len(out)+1 {
				t.Fatalf("%s: no such position in %d rules", c, len(out))
			}
			rule := fmt.Sprintf("-A FORWARD %s", strings.Join(args[3:], " "))
			out = slices.Insert(out, n-1, strings.Replace(rule, args[9], strconv.Quote(args[9]), 1))
		default:
			t.Fatalf("%s: unknown command", c)
		}
	}
	return out
}

// normal is a chain's rules as arguments, without the policy.
func normal(chain []string) [][]string {
	var out [][]string
	for _, line := range chain {
		if args := splitRule(line); args[0] == "-A" {
			out = append(out, args)
		}
	}
	return out
}

func lines(chain string) []string {
	return strings.FieldsFunc(chain, func(r rune) bool { return r == '\n' })
}

func foreignRules(chain []string) []string {
	var out []string
	for _, r := range chain {
		if !isWeave(r) {
			out = append(out, r)
		}
	}
	return out
}

// isWeave tells if a rule is one of weave's.
func isWeave(rule string) bool {
	_, _, ok := origin(splitRule(rule))
	return ok
}
