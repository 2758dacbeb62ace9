// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// Hook is where packets pass a chain, as nft calls it.
type Hook string

// The hooks that are told of.
const (
	Prerouting  Hook = "prerouting"
	Forward     Hook = "forward"
	Postrouting Hook = "postrouting"
)

// Chain is one that packets pass at a hook, whoever has made it.
type Chain struct {
	Name   string // with the back end, the family and the table
	Hook   Hook
	NAT    bool // it translates addresses, and does not filter
	Bridge bool // it sees the frames that pass bridges
	IPv4   bool // it sees packets of IPv4
	IPv6   bool // likewise
	Drops  bool // what no rule decides upon
	Own    bool // of a table of weave's own
	Rules  []ChainRule
}

// ChainRule is a rule of a Chain.
type ChainRule struct {
	Rule
	In, Out string // the links that it is about, as iptables writes them; empty: any
	NotIn   bool   // it is about all but In; likewise NotOut
	NotOut  bool
	Answers bool        // it is only about what belongs to a connection that is known
	If      bool        // it has further conditions
	Target  string      // "ACCEPT", "DROP", "MASQUERADE", ..., or a chain; ? where that is not told
	Jump    []ChainRule // of the chain that is its target
	Weave   bool        // it is one of weave's
}

// Survey returns the chains by which the host filters packets that it forwards and translates addresses. What can't be
// read is left out, and is the error.
func (f *Firewall) Survey(ctx context.Context) ([]Chain, error) {
	all, err := f.allChains(ctx)
	return survey(all), err
}

// Nftables returns why the kernel's nftables can't be used; nil if they can.
func (f *Firewall) Nftables(ctx context.Context) error {
	c, err := conn(ctx)
	if err != nil {
		return err
	}
	_, err = c.ListTables()
	return err
}

// survey returns the chains at hooks, sorted by name.
func survey(all []chain) (out []Chain) {
	for _, c := range all {
		hook := c.hook()
		if hook == "" {
			continue
		}
		out = append(out, Chain{
			Name: c.String(), Hook: hook, NAT: c.isNAT(), Bridge: c.family == "bridge",
			IPv4:  c.family == ipv4 || c.family == "inet",
			IPv6:  c.family == ipv6 || c.family == "inet",
			Drops: c.policy != nil && c.policy.drops,
			Own:   strings.HasPrefix(c.table, ownTablePrefix),
			Rules: rulesOf(c, all, 0),
		})
	}
	slices.SortFunc(out, func(a, b Chain) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// maxJumps is how deep jumps are followed; the kernel refuses loops, and more than 16.
const maxJumps = 16

// rulesOf returns a chain's rules, with those of the chains that they jump to.
func rulesOf(c chain, all []chain, depth int) (out []ChainRule) {
	for i, r := range c.selected(func([]string) bool { return true }) {
		x := parseRule(r, c.rules[i])
		to := slices.IndexFunc(all, func(o chain) bool {
			return o.backend == c.backend && o.family == c.family && o.table == c.table && o.name == x.Target
		})
		if to >= 0 && depth < maxJumps {
			x.Jump = rulesOf(all[to], all, depth+1)
		}
		out = append(out, x)
	}
	return out
}

// hooks are those that are told of: the numbers of nftables, which are the same for bridges, and the names of iptables.
var hooks = []struct {
	hook   Hook
	number nftables.ChainHook
	name   string
}{
	{Prerouting, *nftables.ChainHookPrerouting, "PREROUTING"},
	{Forward, *nftables.ChainHookForward, "FORWARD"},
	{Postrouting, *nftables.ChainHookPostrouting, "POSTROUTING"},
}

// hook returns where packets pass the chain; empty: nowhere, or at another hook than those that are told of.
func (c chain) hook() Hook {
	for _, h := range hooks {
		switch {
		case c.of == nil && c.policy != nil && c.name == h.name:
			return h.hook
		case c.family == "arp" || c.family == "netdev": // their numbers are others
		case c.of != nil && c.of.Hooknum != nil && *c.of.Hooknum == h.number:
			return h.hook
		}
	}
	return ""
}

// isNAT reports whether the chain translates addresses.
func (c chain) isNAT() bool {
	if c.of == nil {
		return c.table == "nat"
	}
	return c.of.Type == nftables.ChainTypeNAT
}

// parseRule reads what a rule is about.
func parseRule(r Rule, args []string) ChainRule {
	out := ChainRule{Rule: r}
	_, _, out.Weave = origin(args)
	not := false
	for i := 0; i < len(args); i++ {
		value := ""
		if i+1 < len(args) {
			value = args[i+1]
		}
		switch args[i] {
		case "!":
			not = true
			continue
		case "-i":
			out.In, out.NotIn = value, not
		case "-o":
			out.Out, out.NotOut = value, not
		case "--comment":
		case "--ctstate":
			known := !not && value != unclear && !strings.Contains(value, "INVALID")
			out.Answers = known && !strings.Contains(value, "NEW")
			out.If = out.If || !known
		case "-m":
			out.If = out.If || value != "comment" && value != "conntrack"
		case "-j", "-g":
			out.Target = value
			return out
		default:
			out.If = true
			i--
		}
		not = false
		i++
	}
	return out
}
