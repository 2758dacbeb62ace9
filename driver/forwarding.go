package driver

import "context"

// setForwarding has the firewall let frames pass on the bridges of all tracked networks, and on no others of this state's.
// Several requests may do so at once: each computes its set only when the earlier one is in place, so that none puts an
// older set over a newer one.
func (d *Driver) setForwarding(ctx context.Context) error {
	if err := d.forwarding.Acquire(ctx, 1); err != nil {
		return err
	}
	defer d.forwarding.Release(1)
	wanted := map[string]string{}
	for _, nw := range d.tracked.Networks() {
		if nw.Phase != Going {
			wanted[nw.Bridge] = string(nw.ID)
		}
	}
	d.step("set firewall rules")
	return d.firewall.Reconcile(ctx, wanted)
}
