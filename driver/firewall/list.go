// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Rule is one of the host's, for people to read.
type Rule struct {
	Table   string // and chain, with the back end and the family
	Text    string // as iptables -S lists it; ? stands for a part that is not told
	Counted bool   // Packets and Bytes are known
	Packets uint64 // that it has matched
	Bytes   uint64
}

// count is what a rule has counted; nil: it does not count.
type count struct{ packets, bytes uint64 }

func countOf(r *nftables.Rule) *count {
	for _, e := range r.Exprs {
		if counter, ok := e.(*expr.Counter); ok {
			return &count{counter.Packets, counter.Bytes}
		}
	}
	return nil
}

// List returns the rules that are about a link, by its name or by how its name begins, in the chains that weave's rules
// belong in and in the table of this state, in the order in which they are tried in each. What can't be read is left
// out, and is the error. One call at a time looks; no other method waits for it.
func (f *Firewall) List(ctx context.Context, link string) ([]Rule, error) {
	if err := f.listing.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for other listings: %w", err)
	}
	defer f.listing.Release(1)
	var all []Rule
	var errs []error
	for _, b := range f.backends {
		chains, err := b.look(ctx)
		errs = append(errs, err)
		for _, c := range chains {
			all = append(all, c.selected(isAbout(link))...)
		}
	}
	own, err := f.listOwn(ctx, link)
	return append(all, own...), errors.Join(append(errs, err)...)
}

// selected returns those of the chain's rules whose arguments are wanted.
func (c chain) selected(wanted func(args []string) bool) []Rule {
	var rules []Rule
	for i, args := range c.rules {
		if !wanted(args) {
			continue
		}
		rules = append(rules, c.rule(quoted(args), c.counts[i]))
	}
	return rules
}

// rule returns a rule of the chain for people to read.
func (c chain) rule(text string, n *count) Rule {
	r := Rule{Table: c.String(), Text: text}
	if n != nil {
		r.Counted, r.Packets, r.Bytes = true, n.packets, n.bytes
	}
	return r
}

// isAbout returns what reports whether a rule has a condition on the link's name.
func isAbout(link string) func(args []string) bool {
	return func(args []string) bool {
		return slices.ContainsFunc([]string{"-i", "-o"}, func(name string) bool {
			pattern := option(args, name)
			if begin, ok := strings.CutSuffix(pattern, "+"); ok {
				return strings.HasPrefix(link, begin)
			}
			return pattern == link
		})
	}
}

// quoted joins arguments, those with spaces in quotes.
func quoted(args []string) string {
	out := slices.Clone(args)
	for i, a := range out {
		if a == "" || strings.ContainsAny(a, " \t\"") {
			out[i] = strconv.Quote(a)
		}
	}
	return strings.Join(out, " ")
}

// listOwn returns the rules about a link in the table of this state.
func (f *Firewall) listOwn(ctx context.Context, link string) ([]Rule, error) {
	c, err := conn(ctx)
	if err != nil {
		return nil, err
	}
	name := ownTable(f.stateID)
	tables, err := c.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list the tables of nftables: %w", err)
	}
	var all []Rule
	for _, v := range families {
		t := &nftables.Table{Name: name, Family: nftFamilies[v]}
		if !isAmong(tables, t) {
			continue
		}
		for _, own := range ownChains {
			rules, err := c.GetRules(t, &nftables.Chain{Name: own.name})
			switch {
			case errors.Is(err, unix.ENOENT):
				continue // a chain without rules is not there
			case err != nil:
				return all, fmt.Errorf("list rules of %s of %s: %w", own.name, name, err)
			}
			ch := chain{backend: "nft", family: v, table: name, name: own.name}
			ch.read(rules)
			all = append(all, ch.selected(isAbout(link))...)
		}
	}
	return all, nil
}
