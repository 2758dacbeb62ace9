// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// chainName is the one chain in which weave has rules. It is of the table filter, the only place where an ACCEPT keeps
// a packet from Docker's rules, which follow, and from the chain's policy.
const chainName = "FORWARD"

// userJump is the rule that sends packets to the chain that Docker reserves for the user's own rules.
const userJump = "-A " + chainName + " -j DOCKER-USER"

// dockerChains are the chains by which Docker's presence in a table filter is recognised. DOCKER-USER and DOCKER are of
// all versions, DOCKER-FORWARD came with 28.
var dockerChains = []string{"DOCKER-USER", "DOCKER-FORWARD", "DOCKER"}

// edit is what has to be done to one FORWARD chain.
type edit struct {
	commands []string // as iptables-restore reads them; to be applied in one transaction, in this order

	// The bridges whose rules change, for the log.
	missing []string // had no rule
	moved   []string // had one in the wrong place, or more than one
	removed []string // had a rule that is not wanted
}

// plan returns how a FORWARD chain has to change so that it has exactly one rule for each bridge in wanted (bridge to
// network id), in its place, and no other rules of this owner. The chain is given as iptables -S lists it. Rules of
// others are never touched.
//
// The place: the user's rules come first, then weave's, then Docker's. So weave's rules follow the jump to DOCKER-USER,
// or the chain's head if there is none, with nothing but ACCEPT rules between. Those take nothing away from weave's,
// and so several instances, or another program with the same idea, don't displace each other again and again.
func plan(chain []string, wanted map[string]string, o owner) edit {
	rules := slices.DeleteFunc(slices.Clone(chain), func(line string) bool {
		return !strings.HasPrefix(line, "-A "+chainName+" ")
	})
	head := slices.Index(rules, userJump) + 1

	count := map[string]int{} // rules exactly as wanted, wherever they are in the chain, by bridge
	for _, line := range rules {
		if b, ok := wantedRule(splitRule(line), wanted, o.stateID); ok {
			count[b]++
		}
	}

	var e edit
	kept := map[string]bool{}
	place := head   // index at which missing rules go, once the deletions are done
	inPlace := true // nothing but ACCEPT since head
	for i, line := range rules {
		args := splitRule(line)
		if !o.owns(args) {
			inPlace = inPlace && (i < head || option(args, "-j") == "ACCEPT")
			continue
		}
		bridge, ok := wantedRule(args, wanted, o.stateID)
		if ok && count[bridge] == 1 && i >= head && inPlace {
			kept[bridge] = true
			continue
		}
		if !ok {
			e.removed = append(e.removed, option(args, "-i"))
		}
		// By its text, not by its number: somebody else may insert a rule meanwhile.
		e.commands = append(e.commands, "-D"+strings.TrimPrefix(line, "-A"))
		if i < head {
			place--
		}
	}

	// All are inserted at the same index, so the last one inserted comes first in the chain.
	for _, bridge := range slices.Backward(slices.Sorted(maps.Keys(wanted))) {
		switch {
		case kept[bridge]:
			continue
		case count[bridge] == 0:
			e.missing = append(e.missing, bridge)
		default:
			e.moved = append(e.moved, bridge)
		}
		e.commands = append(e.commands, "-I "+chainName+" "+strconv.Itoa(place+1)+" "+
			strings.Join(ruleSpec(bridge, wanted[bridge], o.stateID), " "))
	}
	slices.Sort(e.missing)
	slices.Sort(e.moved)
	return e
}

// ruleSpec returns the rule that lets frames pass between two ports of one bridge.
func ruleSpec(bridge, networkID, stateID string) []string {
	return []string{
		"-i", bridge, "-o", bridge,
		"-m", "comment", "--comment", commentPrefix + stateID + ":" + networkID,
		"-j", "ACCEPT",
	}
}

const commentPrefix = "weave:"

// origin returns which state made a rule, and for which network, as the rule's comment says. It is not ok if the rule
// is none of weave's.
func origin(args []string) (stateID, networkID string, ok bool) {
	id, ok := strings.CutPrefix(option(args, "--comment"), commentPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(id, ":")
}

// owner says which rules weave may remove: those that this state made, and those that any state made for one of its
// networks. Docker never uses a network's id again, so such a state was an earlier one on this machine, whose network
// this one has taken over.
type owner struct {
	stateID  string
	networks map[string]bool // by id
}

func (o owner) owns(args []string) bool {
	stateID, networkID, ok := origin(args)
	return ok && (stateID == o.stateID || o.networks[networkID])
}

// wantedRule returns the bridge of a rule, and reports whether the rule is exactly the wanted one for that bridge.
func wantedRule(args []string, wanted map[string]string, stateID string) (bridge string, ok bool) {
	bridge = option(args, "-i")
	networkID, ok := wanted[bridge]
	return bridge, ok && slices.Equal(args[2:], ruleSpec(bridge, networkID, stateID))
}

// jumpsToDocker reports whether a FORWARD chain jumps to one of Docker's chains.
func jumpsToDocker(chain []string) bool {
	return slices.ContainsFunc(chain, func(line string) bool {
		return slices.Contains(dockerChains, option(splitRule(line), "-j"))
	})
}

// option returns the value of the first option of that name in a rule; empty if there is none.
func option(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// splitRule splits a line of iptables -S into its arguments. A string (a comment, a log prefix) is in double quotes,
// with a backslash before each quote or backslash inside.
func splitRule(line string) []string {
	var args []string
	var arg strings.Builder
	quoted, started := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && i+1 < len(line):
			i++
			arg.WriteByte(line[i])
			started = true
		case c == '"':
			quoted = !quoted
			started = true
		case c == ' ' && !quoted:
			if started {
				args = append(args, arg.String())
			}
			arg.Reset()
			started = false
		default:
			arg.WriteByte(c)
			started = true
		}
	}
	if started {
		args = append(args, arg.String())
	}
	return args
}
