// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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

func TestJumpsToDocker(t *testing.T) {
	for chain, want := range map[string]bool{
		docker20: true, docker28: true, noDocker: false,
		"-A FORWARD -o docker0 -j DOCKER":                       true,
		`-A FORWARD -m comment --comment "-j DOCKER" -j ACCEPT`: false,
	} {
		if got := jumpsToDocker(lines(chain)); got != want {
			t.Errorf("jumpsToDocker(%q) = %t, want %t", chain, got, want)
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
		{"", "n1"}, {long + "f", "n1"}, {"-j", "n1"}, {"..", "n1"}, {"wv+", "n1"}, {"a b", "n1"}, {"a\nb", "n1"},
		{"a\n", "n1"}, {"!a", "n1"},
		{"wv-1", ""}, {"wv-1", long + "f"}, {"wv-1", "a:b"}, {"wv-1", `a"`}, {"wv-1", "a\n"}, {"wv-1", "-j"},
	} {
		if err := validate(bad[0], bad[1]); err == nil {
			t.Errorf("validate(%q, %q): no error", bad[0], bad[1])
		}
	}
}

// ownerOf returns the owner that is the state with this id and wants these rules.
func ownerOf(stateID string, wanted map[string]string) owner { return newTarget(stateID, wanted).owner }

// owned returns what rules a FORWARD chain has that this state made, bridge to network id.
func owned(chain []string, stateID string) map[string]string {
	found := map[string]string{}
	for _, line := range chain {
		args := splitRule(line)
		if maker, networkID, ok := origin(args); ok && maker == stateID {
			found[option(args, "-i")] = networkID
		}
	}
	return found
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

// normal returns a chain's rules as arguments, without the policy.
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

// isWeave reports whether a rule is one of weave's.
func isWeave(rule string) bool {
	_, _, ok := origin(splitRule(rule))
	return ok
}
