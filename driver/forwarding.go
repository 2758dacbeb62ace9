// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"
)

// setForwarding has the firewall let frames pass on the bridges of all tracked networks whose frames are not tagged and
// on those that are left alone for the containers on them, and on no others of this state's. Several requests may do so
// at once: each computes its set only when the earlier one is in place, so that no older set replaces a newer one.
// After an error the firewall keeps trying until another set is wanted.
func (d *Driver) setForwarding(ctx context.Context) error {
	if err := d.forwarding.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for other changes of the firewall: %w", err)
	}
	defer d.forwarding.Release(1)
	wanted := map[string]string{}
	for bridge, id := range d.left.bridges() {
		wanted[bridge] = string(id)
	}
	for _, nw := range d.tracked.Networks() {
		if nw.Phase != Going && !nw.Tagged {
			wanted[nw.Bridge] = string(nw.ID)
		}
	}
	d.step("set firewall rules")
	return d.firewall.Set(ctx, wanted)
}
