package driver

import (
	"context"
	"fmt"

	"golang.org/x/sync/semaphore"
)

// forwarding says which networks the firewall has to let frames pass for: each from when its bridge has been made until
// the bridge is about to be removed.
type forwarding struct {
	networks map[NetworkID]bool // guarded by Driver.mu

	// turn is held from computing the firewall's rules until they are set. Otherwise, of two concurrent requests, the
	// one that computed first could set last and so undo what the other one did.
	turn *semaphore.Weighted
}

func newForwarding() forwarding {
	return forwarding{map[NetworkID]bool{}, semaphore.NewWeighted(1)}
}

// startForwarding lets frames pass between the ports of the bridges of these tracked networks. An error takes nothing
// back: the firewall tries again, at the latest with the next change, until stopForwarding is called for them.
func (d *Driver) startForwarding(ctx context.Context, ids ...NetworkID) error {
	return d.setForwarding(ctx, func(networks map[NetworkID]bool) {
		for _, id := range ids {
			networks[id] = true
		}
	})
}

// stopForwarding removes the network's rules from the firewall. That there are none is no error.
func (d *Driver) stopForwarding(ctx context.Context, id NetworkID) error {
	return d.setForwarding(ctx, func(networks map[NetworkID]bool) { delete(networks, id) })
}

func (d *Driver) setForwarding(ctx context.Context, change func(networks map[NetworkID]bool)) error {
	d.mu.Lock()
	change(d.forwarding.networks)
	d.mu.Unlock()
	if err := d.forwarding.turn.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for other changes of the firewall: %w", err)
	}
	defer d.forwarding.turn.Release(1)
	rules := d.forwardingRules()
	d.step("set forwarding")
	return d.firewall.Set(ctx, rules)
}

// forwardingRules returns the rules that the firewall has to have: bridge to network id.
func (d *Driver) forwardingRules() map[string]string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	rules := map[string]string{}
	for _, nw := range d.networks {
		if d.forwarding.networks[nw.ID] {
			rules[nw.Bridge] = string(nw.ID)
		}
	}
	return rules
}
