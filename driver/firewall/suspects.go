// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Suspect is a rule of the host's, or the policy of a chain, that keeps packets from arriving as they were sent.
type Suspect struct {
	Rule
	Rewrites bool // addresses; otherwise it drops or rejects
	OfHost   bool // it only sees what the host itself sends or gets
	OfLink   bool // it sees all frames of bridges or links, those that pass no other table of the host's, too
}

// tableFamilies are the names of the families of tables.
var tableFamilies = map[nftables.TableFamily]family{
	nftables.TableFamilyIPv4: ipv4, nftables.TableFamilyIPv6: ipv6, nftables.TableFamilyINet: "inet",
	nftables.TableFamilyBridge: "bridge", nftables.TableFamilyARP: "arp", nftables.TableFamilyNetdev: "netdev",
}

// Suspects returns all rules and policies of the host that drop or reject packets or translate their addresses, whoever
// has made them, in all tables of nftables and of iptables, with what they have counted. What can't be read is left
// out, and is the error.
func (f *Firewall) Suspects(ctx context.Context) ([]Suspect, error) {
	chains, err := f.allChains(ctx)
	var all []Suspect
	for _, c := range chains {
		all = append(all, c.suspects()...)
	}
	return all, err
}

// allChains lists the chains of all tables of nftables and of iptables. What can't be read is left out, and is the
// error.
func (f *Firewall) allChains(ctx context.Context) ([]chain, error) {
	chains, err := f.nft.list(ctx)
	errs := []error{err}
	for _, b := range f.backends {
		if l, ok := b.(*legacy); ok {
			more, err := l.list(ctx)
			chains, errs = append(chains, more...), append(errs, err)
		}
	}
	return chains, errors.Join(errs...)
}

// list lists the chains of all tables.
func (n *nft) list(ctx context.Context) ([]chain, error) {
	c, err := conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a socket for nftables: %w", err)
	}
	listed, err := c.ListChains()
	switch {
	case err != nil && !n.works.Load() && isMissing(err):
		return nil, nil // this kernel drops nothing by nftables
	case err != nil:
		return nil, fmt.Errorf("list the chains of nftables: %w", err)
	}
	n.works.Store(true)
	return readChains(listed, c.GetRules)
}

// readChains returns the chains with their rules. One whose rules can't be read is left out, and is the error.
func readChains(
	listed []*nftables.Chain, rulesOf func(*nftables.Table, *nftables.Chain) ([]*nftables.Rule, error),
) (chains []chain, err error) {
	var errs []error
	for _, of := range listed {
		ch := chain{backend: "nft", family: tableFamilies[of.Table.Family], table: of.Table.Name, name: of.Name, of: of}
		if of.Policy != nil {
			ch.policy = &policy{drops: *of.Policy == nftables.ChainPolicyDrop} // the library does not tell the counter
		}
		rules, err := rulesOf(of.Table, of)
		switch {
		case err == nil:
			ch.read(rules)
			chains = append(chains, ch)
		case !errors.Is(err, unix.ENOENT): // otherwise somebody has removed it meanwhile
			errs = append(errs, fmt.Errorf("list rules of %s: %w", ch, err))
		}
	}
	return chains, errors.Join(errs...)
}

// isMissing reports whether an error is that of a kernel that has no nftables at all.
func isMissing(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// suspects returns those of the chain's rules that drop or translate, and its policy if that drops, unless a rule of
// weave's lets what is weave's pass before. What weave's own table translates into itself is none.
func (c chain) suspects() (all []Suspect) {
	ofLink := c.family == tableFamilies[nftables.TableFamilyBridge] ||
		c.family == tableFamilies[nftables.TableFamilyNetdev]
	add := func(r Rule, rewrites bool) {
		all = append(all, Suspect{r, rewrites, c.isOfHost(), ofLink})
	}
	for _, r := range c.selected(drops) {
		add(r, false)
	}
	if !strings.HasPrefix(c.table, ownTablePrefix) {
		for _, r := range c.selected(rewrites) {
			add(r, true)
		}
	}
	ours := func(args []string) bool { _, _, ok := origin(args); return ok }
	if c.policy != nil && c.policy.drops && !slices.ContainsFunc(c.rules, ours) {
		add(c.rule("policy DROP", c.policy.count), false)
	}
	return all
}

// isOfHost reports whether the kernel calls the chain for what the host itself sends or gets.
func (c chain) isOfHost() bool {
	if c.of == nil || c.of.Hooknum == nil {
		return c.of == nil && (c.name == "INPUT" || c.name == "OUTPUT")
	}
	return *c.of.Hooknum == *nftables.ChainHookInput || *c.of.Hooknum == *nftables.ChainHookOutput
}

// drops reports whether a rule, as iptables -S lists it, drops or rejects.
func drops(args []string) bool {
	return slices.Contains([]string{"DROP", "REJECT"}, option(args, "-j"))
}

// rewrites reports whether a rule, as iptables -S lists it, translates addresses.
func rewrites(args []string) bool {
	return slices.Contains([]string{"DNAT", "SNAT", "MASQUERADE", "REDIRECT", "NETMAP"}, option(args, "-j"))
}
