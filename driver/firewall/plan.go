// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"cmp"
	"slices"
)

// kind is what a chain is for.
type kind int

const (
	forwarding kind = iota // decides what passes
	prerouting             // sees what comes in first of all
)

// rule is one of weave's.
type rule struct {
	in, out string // links, as iptables writes them; empty: any
	bridged bool   // only frames from a port to another one of the same bridge
	state   state  // of connections; zero: any
	comment string
	jump    string // to this chain; empty: the rule accepts
}

// state is a condition on connections.
type state int

const (
	anyState  state = iota
	answers         // of connections that are known
	asWritten       // those whose destination nobody has translated
)

// stateArgs are the conditions as iptables -S lists them.
var stateArgs = map[state][]string{
	answers:   {"-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED"},
	asWritten: {"-m", "conntrack", "!", "--ctstate", "DNAT"},
}

// dockersDoors are the chains in which versions of Docker drop what others send to its bridges.
var dockersDoors = []string{"DOCKER-INTERNAL", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2", "DOCKER-BRIDGE"}

// rulesFor returns the rules that a chain has to have, in their order. The doors are
// those of dockersDoors that are beside it.
func (k kind) rulesFor(all []subject, doors []string) []rule {
	var rules []rule
	for _, s := range all {
		switch {
		case s.isSpecial():
		case k == forwarding:
			rules = append(rules, rule{in: s.links, out: s.links, bridged: true, comment: s.comment})
			if s.routed {
				rules = append(rules, wayOut(s, doors)...)
			}
		case s.own: // what comes from the user's own bridge may be routed, to where Docker's rules forbid it
			rules = append(rules, rule{in: s.links, comment: s.comment})
		}
	}
	return rules
}

// wayOut returns the rules by which packets leave a bridge with a gateway and their answers enter it. Docker's networks
// are left out, but for the ports that they publish: a packet for one of these goes on to Docker's own rules. What must
// not enter is dropped elsewhere (see keepOut), so that the order of rules in this chain can open nothing.
func wayOut(s subject, doors []string) []rule {
	rules := []rule{{out: s.links, state: answers, comment: s.comment}}
	for _, door := range doors {
		rules = append(rules, rule{in: s.links, state: asWritten, comment: s.comment, jump: door})
	}
	return append(rules, rule{in: s.links, state: asWritten, comment: s.comment})
}

// links returns the links that the rule is about.
func (r rule) links() string { return cmp.Or(r.in, r.out) }

// args returns the rule as iptables -S lists it.
func (r rule) args() []string {
	var args []string
	if r.in != "" {
		args = append(args, "-i", r.in)
	}
	if r.out != "" {
		args = append(args, "-o", r.out)
	}
	if r.bridged {
		args = append(args, "-m", "physdev", "--physdev-is-bridged")
	}
	args = append(args, stateArgs[r.state]...)
	return append(args, "-m", "comment", "--comment", r.comment, "-j", cmp.Or(r.jump, "ACCEPT"))
}

// edit is what has to be done to one chain, in one transaction.
type edit struct {
	remove []int  // indexes of rules
	before int    // index of the rule, or the number of rules, before which add goes
	add    []rule // in this order

	// The links whose rules change, for the log.
	missing []string // had no rule
	moved   []string // had one in the wrong place, or more than one
	removed []string // had a rule that is not wanted
}

func (e edit) empty() bool { return len(e.remove) == 0 && len(e.add) == 0 }

// plan returns how a chain has to change so that it has each of the wanted rules once, in its place and in their order,
// and no other rules of this owner. The chain's rules are given by their arguments, as iptables -S lists them, without
// -A and the chain's name. Rules of others are never touched.
func plan(chain [][]string, wanted []rule, k kind, o owner) edit {
	from, to, before := k.place(chain)
	e := edit{before: before}
	kept := make([]bool, len(wanted))
	found := make([]bool, len(wanted))
	var at []int // of each that is kept, in the order of the chain: its index among the wanted ones
	for i, args := range chain {
		if !o.owns(args) {
			continue
		}
		n := slices.IndexFunc(wanted, func(r rule) bool { return slices.Equal(args, r.args()) })
		switch {
		case n < 0:
			e.removed = append(e.removed, cmp.Or(option(args, "-i"), option(args, "-o")))
		case !kept[n] && from <= i && i < to:
			kept[n] = true
			at = append(at, n)
			continue
		default:
			found[n] = true
		}
		e.remove = append(e.remove, i)
	}
	jumps := slices.ContainsFunc(wanted, func(r rule) bool { return r.jump != "" })
	if jumps && !(len(at) == len(wanted) && slices.IsSorted(at)) {
		// The jump has to come before what it is the exception of, so all are written anew.
		e.remove = nil
		for i, args := range chain {
			if o.owns(args) {
				e.remove = append(e.remove, i)
			}
		}
		for _, n := range at {
			kept[n], found[n] = false, true
		}
	}
	for n, r := range wanted {
		switch {
		case kept[n] && found[n]:
			e.moved = append(e.moved, r.links())
		case kept[n]:
		case found[n]:
			e.moved = append(e.moved, r.links())
			e.add = append(e.add, r)
		default:
			e.missing = append(e.missing, r.links())
			e.add = append(e.add, r)
		}
	}
	return e
}

// place returns where in a chain weave's rules are in their place: at indexes from <= i < to; and before which one
// those go that are missing.
//
// The user's rules come first, then weave's, then Docker's. Where FORWARD jumps to DOCKER-USER, the user's rules are
// there. Otherwise they are all rules of the chain, but for those that decide in the end: the one that refuses all that
// is left in FORWARD, and those of Docker's in raw PREROUTING.
//
// Rules that accept may be between, and weave's of any state. They take nothing away from weave's, and so several
// instances, or another program with the same idea, don't displace each other again and again.
func (k kind) place(chain [][]string) (from, to, before int) {
	if k == forwarding {
		if i := slices.IndexFunc(chain, jumpsToUser); i >= 0 {
			from, to = i+1, i+1
			for to < len(chain) && harmless(chain[to]) {
				to++
			}
			return from, to, from
		}
	}
	to = slices.IndexFunc(chain, map[kind]func([]string) bool{forwarding: refusesRest, prerouting: keepsOut}[k])
	if to < 0 {
		to = len(chain)
	}
	from = to
	for from > 0 && harmless(chain[from-1]) {
		from--
	}
	return from, to, to
}

// jumpsToUser reports whether a rule sends all packets to the chain that Docker reserves for the user's own rules.
func jumpsToUser(args []string) bool {
	return slices.Equal(withoutComment(args), []string{"-j", "DOCKER-USER"})
}

// refusesRest reports whether a rule refuses all packets that come to it.
func refusesRest(args []string) bool {
	args = withoutComment(args)
	return len(args) >= 2 && args[0] == "-j" && (args[1] == "DROP" || args[1] == "REJECT")
}

// keepsOut reports whether a rule is of the kind that Docker has in raw PREROUTING since version 28, to keep packets
// from a container that don't come from its own network: -d ADDRESS ! -i BRIDGE -j DROP.
func keepsOut(args []string) bool {
	i := slices.Index(args, "-i")
	return option(args, "-j") == "DROP" && i > 0 && args[i-1] == "!"
}

func harmless(args []string) bool {
	_, _, ours := origin(args)
	return ours || option(args, "-j") == "ACCEPT"
}

// withoutComment returns a rule without its comments.
func withoutComment(args []string) []string {
	var rest []string
	for i := 0; i < len(args); i++ {
		if i+3 < len(args) && args[i] == "-m" && args[i+1] == "comment" && args[i+2] == "--comment" {
			i += 3
			continue
		}
		rest = append(rest, args[i])
	}
	return rest
}

// option returns the value of the first option of that name in a rule; empty if there is none.
func option(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}
