package driver

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/vishvananda/netlink"
)

// CreateNetwork makes the network's bridge. Docker sends no DeleteNetwork when this fails, and Swarm repeats it for a
// network that is there: the same request again is no error, another one with the same id is ErrConflict.
func (d *Driver) CreateNetwork(ctx context.Context, req *network.CreateNetworkRequest) (err error) {
	nw, err := parseNetwork(req, d.mtu)
	if err != nil {
		return err
	}
	unlock, err := d.locks.lock(ctx, nw.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if old, ok := d.network(nw.ID); ok {
		// What the request leaves open is as it was, whatever the defaults are by now.
		if again, err := parseNetwork(req, old.MTU); err == nil && again.same(old) {
			return d.completeNetwork(ctx, old) // a removal may have failed half way
		}
		return fmt.Errorf("%w: network %s is there already, made with other options or subnets: remove it first", ErrConflict, nw.ID)
	}
	if nw.Bridge == "" {
		nw.Bridge = bridgeName(nw.ID)
	}
	if err := d.claimBridge(&nw); err != nil {
		return fmt.Errorf("create network %s: %w", nw.ID, err)
	}
	if err := d.makeNetwork(ctx, nw); err != nil {
		d.drop(nw.ID)
		return fmt.Errorf("create network %s: %w", nw.ID, err)
	}
	return nil
}

// claimBridge tracks the network if no other one has its bridge, so that no two requests can have it, and finds out whose
// the bridge is.
func (d *Driver) claimBridge(nw *Network) error {
	link, err := findLink(nw.Bridge)
	if err != nil {
		return err
	}
	if link != nil && nw.Bridge != bridgeName(nw.ID) {
		if link.Type() != "bridge" {
			return fmt.Errorf("%w: option %s: %s is a %s, not a bridge", ErrConflict, optionBridge, nw.Bridge, link.Type())
		}
		nw.Foreign = link.Attrs().Alias != networkAlias(d.stateID, nw.ID)
	}
	if link != nil && link.Attrs().Alias != "" && nw.Bridge == bridgeName(nw.ID) && link.Attrs().Alias != networkAlias(d.stateID, nw.ID) {
		return fmt.Errorf("%w: bridge %s belongs to somebody else (alias %q)", ErrConflict, nw.Bridge, link.Attrs().Alias)
	}
	nw.Created = time.Now().UTC()

	d.mu.Lock()
	defer d.mu.Unlock()
	for _, other := range d.networks {
		if other.Bridge == nw.Bridge {
			return fmt.Errorf("%w: bridge %s is that of network %s: networks don't share one", ErrConflict, nw.Bridge, other.ID)
		}
	}
	d.networks[nw.ID] = *nw
	return nil
}

func (d *Driver) drop(id NetworkID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.networks, id)
}

// makeNetwork makes what the network needs in the kernel, the record first; what a failure leaves is taken back.
func (d *Driver) makeNetwork(ctx context.Context, nw Network) (err error) {
	var u undo
	defer u.unless(&err)
	u.push(func() error { return d.eraseNetwork(context.WithoutCancel(ctx), nw) })
	if err := d.writeNetwork(ctx, nw, making); err != nil {
		return err
	}
	u.push(func() error { return d.deleteBridge(nw) })
	u.push(func() error { return d.stopForwarding(context.WithoutCancel(ctx), nw.ID) })
	return d.completeNetwork(ctx, nw)
}

// completeNetwork makes what the network lacks in the kernel, and marks it made.
func (d *Driver) completeNetwork(ctx context.Context, nw Network) error {
	if _, err := d.ensureNetworkBridge(nw); err != nil {
		return err
	}
	if err := d.startForwarding(ctx, nw.ID); err != nil {
		return fmt.Errorf("allow forwarding on bridge %s: %w", nw.Bridge, err)
	}
	return d.writeNetwork(ctx, nw, made)
}

// ensureNetworkBridge returns the network's bridge, made or mended if it is weave's own.
func (d *Driver) ensureNetworkBridge(nw Network) (netlink.Link, error) {
	if !nw.Foreign {
		return d.links.ensureBridge(nw.Bridge, bridgeName(nw.ID), networkAlias(d.stateID, nw.ID), nw.MTU)
	}
	link, err := findLink(nw.Bridge)
	switch {
	case err != nil:
		return nil, err
	case link == nil || link.Type() != "bridge":
		return nil, fmt.Errorf("%w: bridge %s, which is not weave's own, is gone: make it again (ip link add %s type bridge)", ErrNotFound, nw.Bridge, nw.Bridge)
	}
	return link, nil
}

// DeleteNetwork removes the network and what is left on it. Docker forgets the network whatever the answer, so an
// unknown one is no error, and endpoints that are still here are such that Docker has forgotten.
func (d *Driver) DeleteNetwork(ctx context.Context, req *network.DeleteNetworkRequest) error {
	id := NetworkID(req.NetworkID)
	if err := id.check(); err != nil {
		return err
	}
	unlock, err := d.locks.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	nw, ok := d.network(id)
	if !ok {
		return nil
	}
	if err := d.deleteNetwork(ctx, nw); err != nil {
		return fmt.Errorf("delete network %s: %w", id, err)
	}
	return nil
}

func (d *Driver) deleteNetwork(ctx context.Context, nw Network) error {
	if err := d.writeNetwork(ctx, nw, going); err != nil {
		return err
	}
	for _, ep := range d.endpointsOf(nw.ID) {
		d.log.WithField("network", nw.ID).WithField("endpoint", ep.ID).Warn("removing an endpoint that Docker has forgotten with its network")
		if err := d.retire(ctx, ep); err != nil {
			return err
		}
	}
	if err := d.removals.settle(ctx, nw.ID); err != nil {
		return err
	}
	if err := d.stopForwarding(ctx, nw.ID); err != nil {
		return fmt.Errorf("revoke forwarding on bridge %s: %w", nw.Bridge, err)
	}
	if err := d.unmakeNetwork(ctx, nw); err != nil {
		return err
	}
	d.drop(nw.ID)
	return nil
}

// unmakeNetwork removes the network's bridge, then its record.
func (d *Driver) unmakeNetwork(ctx context.Context, nw Network) error {
	if err := d.deleteBridge(nw); err != nil {
		return err
	}
	return d.eraseNetwork(ctx, nw)
}

// deleteBridge removes the network's bridge if it is weave's own, under the name that it has and under the one that it was
// made with.
func (d *Driver) deleteBridge(nw Network) error {
	if nw.Foreign {
		return nil
	}
	for _, name := range slices.Compact([]string{bridgeName(nw.ID), nw.Bridge}) {
		if err := d.links.deleteNamed(name, "bridge", networkAlias(d.stateID, nw.ID)); err != nil {
			return err
		}
	}
	return nil
}
