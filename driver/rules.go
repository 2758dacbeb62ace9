// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"

	"github.com/weaveplugin/weave/driver/firewall"
)

// FirewallRules returns the host's rules that are about a network's bridge, in the chains that weave's rules belong in.
// Those that can't be read are left out, and are the error.
func (d *Driver) FirewallRules(ctx context.Context, nw Network) ([]firewall.Rule, error) {
	rules, err := d.firewall.List(ctx, nw.Bridge)
	if err != nil {
		return rules, fmt.Errorf("list the host's rules for %s: %w", nw.Bridge, err)
	}
	return rules, nil
}

// SuspectRules returns all rules of the host that keep packets from arriving as they were sent, whoever has made them.
// Those that can't be read are left out, and are the error.
func (d *Driver) SuspectRules(ctx context.Context) ([]firewall.Suspect, error) {
	return d.firewall.Suspects(ctx)
}

// HostChains returns the chains by which the host filters what it forwards and translates addresses, whoever has made
// them. Those that can't be read are left out, and are the error.
func (d *Driver) HostChains(ctx context.Context) ([]firewall.Chain, error) {
	return d.firewall.Survey(ctx)
}

// Nftables returns why the kernel's nftables can't be used; nil if they can.
func (d *Driver) Nftables(ctx context.Context) error { return d.firewall.Nftables(ctx) }
