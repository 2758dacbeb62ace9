package firewall

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// chainName is the one chain in which weave has rules: of the table filter, the only place where an ACCEPT keeps
// the packet from the rules of Docker's that follow and from the chain's policy.
const chainName = "FORWARD"

// userJump sends packets to the chain that Docker reserves for the user's own rules.
const userJump = "-A " + chainName + " -j DOCKER-USER"

// engineChains are the chains by which the Engine's presence in a table filter is recognised. DOCKER-USER and DOCKER
// are of all versions, DOCKER-FORWARD came with 28.
var engineChains = []string{"DOCKER-USER", "DOCKER-FORWARD", "DOCKER"}

// change is what has to be done to one FORWARD chain.
type change struct {
	commands []string // as iptables-restore reads them; to be applied in one transaction, in this order

	// The bridges concerned, for the log.
	missing []string // had no rule
	moved   []string // had one in the wrong place, or more than one
	removed []string // had a rule, and shall have none like it
}

// plan says how a FORWARD chain has to change in order to have exactly one rule for each bridge in wanted (bridge to
// network id), in its place, and no others of this owner. The chain is given as iptables -S lists it. Rules of others
// are never touched.
//
// The place: the user's rules come first, then weave's, then Docker's. So a rule of weave's stands behind the jump to
// DOCKER-USER, or at the chain's head if there is none, with nothing but ACCEPT rules between. Those take nothing away
// from weave's, and so several instances, or another program with the same idea, don't push each other aside for ever.
func plan(chain []string, wanted map[string]string, o owner) change {
	rules := slices.DeleteFunc(slices.Clone(chain), func(line string) bool {
		return !strings.HasPrefix(line, "-A "+chainName+" ")
	})
	head := slices.Index(rules, userJump) + 1

	count := map[string]int{} // rules as they should be, wherever they stand, by bridge
	for _, line := range rules {
		if b, ok := wantedRule(splitRule(line), wanted, o.stateID); ok {
			count[b]++
		}
	}

	var c change
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
			c.removed = append(c.removed, option(args, "-i"))
		}
		// By its text, not by its number: somebody else may insert a rule in between.
		c.commands = append(c.commands, "-D"+strings.TrimPrefix(line, "-A"))
		if i < head {
			place--
		}
	}

	// Each goes before the one inserted last, so the first comes last.
	for _, bridge := range slices.Backward(slices.Sorted(maps.Keys(wanted))) {
		switch {
		case kept[bridge]:
			continue
		case count[bridge] == 0:
			c.missing = append(c.missing, bridge)
		default:
			c.moved = append(c.moved, bridge)
		}
		c.commands = append(c.commands, "-I "+chainName+" "+strconv.Itoa(place+1)+" "+
			strings.Join(ruleSpec(bridge, wanted[bridge], o.stateID), " "))
	}
	slices.Sort(c.missing)
	slices.Sort(c.moved)
	return c
}

// ruleSpec is the rule that lets frames pass between two ports of one bridge.
func ruleSpec(bridge, networkID, stateID string) []string {
	return []string{
		"-i", bridge, "-o", bridge,
		"-m", "comment", "--comment", commentPrefix + stateID + ":" + networkID,
		"-j", "ACCEPT",
	}
}

const commentPrefix = "weave:"

// origin is which state made a rule and for which network, as its comment says; ok if it is a rule of weave's at all.
func origin(args []string) (stateID, networkID string, ok bool) {
	id, ok := strings.CutPrefix(option(args, "--comment"), commentPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(id, ":")
}

// owner says which rules are this state's: those that it made, and those that any state made for one of its networks.
// Docker gives no network's id twice, so such a state was here before this one, which has taken the network over.
type owner struct {
	stateID  string
	networks map[string]bool // by id
}

func (o owner) owns(args []string) bool {
	stateID, networkID, ok := origin(args)
	return ok && (stateID == o.stateID || o.networks[networkID])
}

// wantedRule tells if a rule is exactly as wanted has it for a bridge, and for which.
func wantedRule(args []string, wanted map[string]string, stateID string) (bridge string, ok bool) {
	bridge = option(args, "-i")
	networkID, ok := wanted[bridge]
	return bridge, ok && slices.Equal(args[2:], ruleSpec(bridge, networkID, stateID))
}

// owned is what a FORWARD chain has that this state made, bridge to network id.
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

// holdsEngine tells if a FORWARD chain jumps to a chain of the Engine's.
func holdsEngine(chain []string) bool {
	return slices.ContainsFunc(chain, func(line string) bool {
		return slices.Contains(engineChains, option(splitRule(line), "-j"))
	})
}

// option is the value of the first option of that name in a rule; empty if there is none.
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
