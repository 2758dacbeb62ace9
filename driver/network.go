// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// CreateNetwork makes the network's bridge. Docker sends no DeleteNetwork when this fails. Swarm repeats requests, so
// the same request for a network that is there is no error; another one with the same id is ErrConflict.
func (d *Driver) CreateNetwork(ctx context.Context, spec NetworkSpec) error {
	if err := d.withDefaults(spec).check(); err != nil {
		return err
	}
	unlock, err := d.lock(ctx, spec.ID)
	if err != nil {
		return err
	}
	defer unlock()
	if old, ok := d.tracked.network(spec.ID); ok {
		if spec.matches(old) {
			if spec.Refused != nil {
				d.log.WithField("network", old.ID).WithError(spec.Refused).Warn("an option has no effect")
			}
			return d.completeNetwork(ctx, old) // its removal may have failed
		}
		return fmt.Errorf("%w: network %s is there already, made with other options or subnets: remove it first",
			ErrConflict, spec.ID)
	}
	if spec.Refused != nil {
		return spec.Refused
	}
	if spec.Gateway == "" {
		if spec.Gateway, err = d.chooseGateway(ctx, spec); err != nil {
			return fmt.Errorf("create network %s: %w", spec.ID, err)
		}
		if err := spec.checkGateway(); err != nil {
			return err
		}
	}
	if err := spec.checkRouters(); err != nil {
		return err
	}
	if err := d.checkWayOut(ctx, spec.Definition); err != nil {
		return fmt.Errorf("create network %s: %w", spec.ID, err)
	}
	joined, err := d.joinCluster(ctx, d.spanSwarm(spec))
	if err != nil {
		return fmt.Errorf("create network %s: %w", spec.ID, err)
	}
	if err := d.createNetwork(ctx, joined); err != nil {
		return fmt.Errorf("create network %s: %w", spec.ID, errors.Join(err, d.leaveCluster(ctx, joined.Definition)))
	}
	return nil
}

// withDefaults fills in what spec leaves open.
func (d *Driver) withDefaults(spec NetworkSpec) NetworkSpec {
	spec.MTU = cmp.Or(spec.MTU, d.mtu)
	spec.Guard = cmp.Or(spec.Guard, GuardOn)
	if spec.Internal { // nothing leaves that could be translated
		spec.NAT = NATAll
	}
	return spec
}

// createNetwork writes the record, then makes what the network needs in the kernel. If a step fails, those before it
// are undone.
func (d *Driver) createNetwork(ctx context.Context, spec NetworkSpec) (err error) {
	own := networkAlias(d.stateID, spec.ID)
	nw, err := d.newNetwork(spec, func(a alias) bool { return a == own })
	if err != nil {
		return err
	}
	var u undo
	defer u.onError(&err)
	cleanup := context.WithoutCancel(ctx)
	if err := d.tracked.claimNetwork(nw); err != nil {
		return err
	}
	u.push(func() error { d.tracked.removeNetwork(nw.ID, causeOf(ctx)); return nil })
	u.push(func() error { return d.removeNetwork(cleanup, nw) })
	if err := d.writeNetwork(ctx, nw); err != nil {
		return err
	}
	u.push(func() error {
		d.tracked.removeNetwork(nw.ID, causeOf(ctx)) // so that its rule is not wanted any more
		return d.setForwarding(cleanup)
	})
	if err := d.completeNetwork(ctx, nw); err != nil {
		return err
	}
	return ctx.Err() // if the last write took too long, Docker was told that there is no network
}

// newNetwork returns the network that spec asks for, about to be made. It finds out whether a bridge that is there
// already is weave's; isOurs says so of its alias. Somebody else's bridge is used if the user has named it, and is a
// conflict if it has the name that weave gives by itself.
func (d *Driver) newNetwork(spec NetworkSpec, isOurs func(alias) bool) (Network, error) {
	spec = d.withDefaults(spec)
	own := spec.bridgeName()
	nw := Network{
		Definition: spec.Definition,
		Local: Local{
			Bridge: spec.bridge(), Announced: spec.Announced, Created: time.Now().UTC(), Phase: Making,
		},
	}
	nw.Firewall = cmp.Or(nw.Firewall, FirewallNone)
	link, err := findLink(nw.Bridge)
	if err != nil || link == nil {
		return nw, err
	}
	a, ok := parseAlias(link.Attrs().Alias)
	ours := ok && isOurs(a)
	switch {
	case nw.Bridge == own && link.Attrs().Alias != "" && !ours:
		return nw, fmt.Errorf("%w: bridge %s belongs to somebody else (alias %q)", ErrConflict, own, link.Attrs().Alias)
	case nw.Bridge != own && link.Type() != "bridge":
		return nw, fmt.Errorf("%w: option %s: %s is a %s, not a bridge",
			ErrConflict, optionBridge, nw.Bridge, link.Type())
	}
	nw.Foreign = nw.Bridge != own && !ours
	if nw.Foreign && spec.Firewall == FirewallNone {
		return nw, fmt.Errorf("%w: option %s=%s: bridge %s was not made by weave, and its other ports would send "+
			"tags out: leave the option out, or give %[2]s=%[5]s",
			ErrInvalid, optionFirewall, FirewallNone, nw.Bridge, FirewallHost)
	}
	if nw.Foreign && nw.hasGateway() {
		return nw, fmt.Errorf("%w: option %s=%s: bridge %s was not made by weave, which puts no address on it: give "+
			"the address of the router there, %[2]s=ADDRESS", ErrInvalid, optionGateway, nw.Gateway, nw.Bridge)
	}
	if nw.Foreign && nw.Cluster != "" {
		return nw, fmt.Errorf("%w: option %s=%s: bridge %s was not made by weave, and a network of the cluster needs "+
			"one of weave's own: leave out %s", ErrInvalid, OptionNetwork, nw.Cluster, nw.Bridge, optionBridge)
	}
	if nw.Foreign {
		nw.Firewall = FirewallHost
	}
	return nw, nil
}

// completeNetwork makes what the network lacks in the kernel, and marks it made.
func (d *Driver) completeNetwork(ctx context.Context, nw Network) error {
	if _, err := d.ensureNetworkBridge(ctx, nw); err != nil {
		return err
	}
	if now, ok := d.tracked.network(nw.ID); ok && now.Phase == Made {
		nw.Tagged = now.Tagged
	} else {
		nw.Tagged = d.tags(nw) == nil
		d.tracked.setNetwork(nw, causeOf(ctx))
	}
	if nw.VNI != 0 {
		if err := d.ensureDevice(nw, nil); err != nil {
			return err
		}
	}
	if nw.Phase == Going { // its rule is wanted again
		nw.Phase = Making
		d.tracked.setNetwork(nw, causeOf(ctx))
	}
	if err := d.setForwarding(ctx); err != nil {
		return fmt.Errorf("let frames pass on bridge %s: %w", nw.Bridge, err)
	}
	if !nw.Foreign { // the bridge was weave's once
		if err := d.forward(nw.gateways()); err != nil {
			return err
		}
	}
	nw.Phase = Made
	if err := d.writeNetwork(ctx, nw); err != nil {
		return err
	}
	d.tracked.setNetwork(nw, causeOf(ctx))
	return nil
}

// DeleteNetwork removes the network and what is left on it. Docker forgets the network whatever weave answers. So an
// unknown network is no error, and Docker has forgotten any endpoints that are still on it.
func (d *Driver) DeleteNetwork(ctx context.Context, id NetworkID) error {
	if err := id.Check(); err != nil {
		return err
	}
	unlock, err := d.lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	nw, ok := d.tracked.network(id)
	if !ok {
		return nil
	}
	if err := d.deleteNetwork(ctx, nw); err != nil {
		return fmt.Errorf("delete network %s: %w", id, err)
	}
	return nil
}

func (d *Driver) deleteNetwork(ctx context.Context, nw Network) error {
	nw.Phase = Going
	if err := d.writeNetwork(ctx, nw); err != nil {
		return err
	}
	d.tracked.setNetwork(nw, causeOf(ctx))
	for _, ep := range d.tracked.endpointsOf(nw.ID) {
		d.logOf(ep).Warn("removing an endpoint that Docker has forgotten with its network")
		if err := d.retire(ctx, ep); err != nil {
			return err
		}
	}
	if err := d.removals.wait(ctx, nw.ID); err != nil {
		return err
	}
	if err := d.setForwarding(ctx); err != nil {
		return fmt.Errorf("let no more frames pass on bridge %s: %w", nw.Bridge, err)
	}
	if err := d.removeNetwork(ctx, nw); err != nil {
		return err
	}
	d.tracked.removeNetwork(nw.ID, causeOf(ctx))
	return d.leaveCluster(ctx, nw.Definition)
}

// removeNetwork removes what the network has in the kernel, then its record. If the first fails the record stays, so
// that Reconcile removes both.
func (d *Driver) removeNetwork(ctx context.Context, nw Network) error {
	if err := d.removeNetworkBridge(nw); err != nil {
		return err
	}
	return d.eraseNetwork(ctx, nw)
}
