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
)

// tableFamilies are the names of the families of tables, as nft has them.
var tableFamilies = map[nftables.TableFamily]family{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
	nftables.TableFamilyBridge: "bridge", nftables.TableFamilyARP: "arp", nftables.TableFamilyNetdev: "netdev",
}

// Drops returns all rules of the host that drop or reject packets, whoever has made them, in all tables of nftables and
// of iptables, with what they have counted. What can't be read is left out, and is the error.
func (f *Firewall) Drops(ctx context.Context) ([]Rule, error) {
	rules, err := nftDrops(ctx)
	errs := []error{err}
	for _, b := range f.backends {
		l, ok := b.(*legacy)
		if !ok || l.save == "" || !legacyLives(l.family) {
			continue
		}
		out, err := execute(ctx, "", l.save, "-c")
		if err != nil {
			errs = append(errs, fmt.Errorf("list the legacy %s tables of iptables: %w", l.family, err))
			continue
		}
		rules = append(rules, legacyDrops(l.family, out)...)
	}
	return rules, errors.Join(errs...)
}

func nftDrops(ctx context.Context) ([]Rule, error) {
	c, err := conn(ctx)
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, nil // a kernel without nftables drops nothing by them
	}
	var all []Rule
	for _, ch := range chains {
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			continue // somebody has removed the chain meanwhile
		}
		listed := chain{backend: "nft", family: tableFamilies[ch.Table.Family], table: ch.Table.Name, name: ch.Name}
		listed.read(rules)
		all = append(all, listed.selected(drops)...)
	}
	return all, nil
}

// drops reports whether a rule, as iptables -S lists it, drops or rejects.
func drops(args []string) bool {
	return slices.Contains([]string{"DROP", "REJECT"}, option(args, "-j"))
}

// legacyDrops returns the rules that drop of what iptables-save -c writes: lines [PACKETS:BYTES] -A CHAIN RULE.
func legacyDrops(v family, saved string) []Rule {
	var all []Rule
	table := ""
	for line := range strings.Lines(saved) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
		}
		counts, rest, _ := strings.Cut(strings.TrimPrefix(line, "["), "] ")
		packets, bytes, ok := strings.Cut(counts, ":")
		args := splitRule(rest)
		if !ok || len(args) < 3 || args[0] != "-A" || !drops(args) {
			continue
		}
		r := Rule{Table: fmt.Sprintf("legacy %s %s %s", v, table, args[1]), Text: quoted(args[2:])}
		var err, err2 error
		r.Packets, err = strconv.ParseUint(packets, 10, 64)
		r.Bytes, err2 = strconv.ParseUint(bytes, 10, 64)
		r.Counted = err == nil && err2 == nil
		all = append(all, r)
	}
	return all
}
