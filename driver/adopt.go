// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/driver/tc"
)

// Adopt tracks a network that Docker says is this plugin's, and its endpoints, if the state does not know them: the
// plugin was installed again while containers run, or an older copy of the state was put back. Links that another state
// made for them are taken over as they are, so no traffic is lost; an endpoint without a host end is left out. What is
// tracked already stays as it is.
func (d *Driver) Adopt(ctx context.Context, spec NetworkSpec, endpoints []AdoptedEndpoint) error {
	unlock, err := d.lock(ctx, spec.ID)
	if err != nil {
		return err
	}
	defer unlock()
	var errs []error
	nw, ok := d.tracked.network(spec.ID)
	if !ok {
		if err := d.adoptGateway(ctx, &spec, endpoints); err != nil {
			return err
		}
		if err := d.withDefaults(spec).check(); err != nil {
			return err
		}
		spec.Firewall = cmp.Or(spec.Firewall, firewallAsMade(endpoints))
		// When this fails it is tried again, so the host stays a member of the network: nobody else gets its addresses.
		if spec, err = d.joinCluster(ctx, d.spanSwarm(spec)); err != nil {
			return fmt.Errorf("adopt network %s: %w", spec.ID, err)
		}
		if nw, err = d.adoptNetwork(ctx, spec); err != nil {
			return fmt.Errorf("adopt network %s: %w", spec.ID, err)
		}
		if err := d.setForwarding(ctx); err != nil { // the firewall keeps trying
			errs = append(errs, fmt.Errorf("adopt network %s: %w", spec.ID, err))
		}
	}
	for _, ep := range endpoints {
		if _, ok := d.tracked.endpoint(ep.ID); ok {
			continue
		}
		ep.Network = nw.ID
		if err := d.adoptEndpoint(ctx, ep); err != nil {
			errs = append(errs, fmt.Errorf("adopt endpoint %s: %w", ep.ID, err))
		}
	}
	// What is there may have been made by another version of weave, or in another way.
	report, _, err := d.repair(ctx, nw.ID, nil)
	if err != nil {
		errs = append(errs, fmt.Errorf("adopt network %s: %w", spec.ID, err))
	}
	for _, text := range report.Problems {
		errs = append(errs, fmt.Errorf("adopt network %s: %s", spec.ID, text))
	}
	return errors.Join(errs...)
}

// firewallAsMade returns whose rules apply to a network that is adopted: the host's, if a host end has no tc program
// that tags its frames, as those of earlier versions; otherwise it stays open.
func firewallAsMade(endpoints []AdoptedEndpoint) Firewall {
	for _, ep := range endpoints {
		link, err := findLink(hostEndName(ep.ID))
		if err != nil || link == nil {
			continue
		}
		if attached, err := tc.Look(link); err == nil && attached.Egress == "" {
			return FirewallHost
		}
	}
	return ""
}

// adoptNetwork writes the record as made at once, and before the bridge gets this state's alias: a crash then leaves a
// network for Reconcile to complete, and nothing that it would remove. When it fails the network is not tracked, so
// that it can be tried again; its links stay.
func (d *Driver) adoptNetwork(ctx context.Context, spec NetworkSpec) (_ Network, err error) {
	if err := d.adoptMTU(&spec); err != nil {
		return Network{}, err
	}
	nw, err := d.newNetwork(spec, networkAlias(d.stateID, spec.ID).sameSubject)
	if err != nil {
		return Network{}, err
	}
	if err := d.tracked.claimNetwork(nw); err != nil {
		return Network{}, err
	}
	var u undo
	defer u.onError(&err)
	u.push(func() error {
		d.tracked.removeNetwork(nw.ID, causeOf(ctx))
		return d.eraseNetwork(context.WithoutCancel(ctx), nw)
	})
	nw.Phase = Made
	if err := d.writeNetwork(ctx, nw); err != nil {
		return nw, err
	}
	d.log.WithField("network", nw.ID).Warn("adopting a network that Docker knows and the state does not")
	if _, err := d.ensureNetworkBridge(ctx, nw); err != nil {
		return nw, err
	}
	d.tracked.setNetwork(nw, causeOf(ctx))
	d.left.dropNetwork(nw.ID)
	return nw, nil
}

// adoptMTU leaves a network whose MTU nobody has chosen the one that its bridge has: the default may have been another
// one when it was made, and its container ends have that.
func (d *Driver) adoptMTU(spec *NetworkSpec) error {
	if spec.MTU != 0 {
		return nil
	}
	link, err := findLink(spec.bridge())
	if err != nil || link == nil {
		return err
	}
	if a, ok := parseAlias(link.Attrs().Alias); ok && a.sameSubject(networkAlias(d.stateID, spec.ID)) {
		spec.MTU = link.Attrs().MTU
	}
	return nil
}

// adoptGateway finds out, from the bridge that it was made with and what Docker was answered for its endpoints, the way
// out of a network for which nobody has chosen one.
// Gateways that Docker does not tell it takes from there, too: before version 28 it lists only those that somebody has
// typed.
func (d *Driver) adoptGateway(ctx context.Context, spec *NetworkSpec, endpoints []AdoptedEndpoint) error {
	var answered []netip.Addr
	for _, ep := range endpoints {
		answered = append(answered, ep.Gateways...)
	}
	if spec.Gateway.container() != "" {
		spec.Pools = fillGateways(spec.Pools, answered)
	}
	if spec.Gateway != "" && !spec.hasGateway() || spec.Internal {
		return nil
	}
	asGateway := *spec
	asGateway.Gateway = cmp.Or(spec.Gateway, GatewayAuto)
	found, err := addressesAt(asGateway.bridge())
	if err != nil {
		return err
	}
	var addresses []netip.Addr
	for _, a := range found {
		addresses = append(addresses, a.Addr())
	}
	asGateway.Pools = fillGateways(spec.Pools, addresses)
	if spec.Gateway != "" { // the bridge may be gone, and a container has it still
		asGateway.Pools = fillGateways(asGateway.Pools, answered)
	}
	isIn := func(p Pool) bool { return slices.Contains(addresses, p.Gateway) }
	foreign, err := spec.hasForeignBridge()
	if err != nil {
		return err
	}
	if spec.Gateway != "" || !foreign && slices.ContainsFunc(asGateway.Pools, isIn) {
		*spec = asGateway
		return nil
	}
	link, err := findLink(spec.bridge())
	if err != nil {
		return err
	}
	if foreign && len(answered) > 0 && len(spec.poolGateways()) > 0 {
		spec.Gateway = routersGateway(spec.poolGateways())
		return nil
	}
	if link != nil {
		d.log.WithField("network", spec.ID).Warnf("nothing tells the way out of a network that is adopted: it is %s; "+
			"if it was another one, make the network again", GatewayDocker)
		spec.Gateway, spec.NAT, spec.HostApart = GatewayDocker, NATAll, false
		return nil
	}
	spec.Gateway, err = d.chooseGateway(ctx, *spec)
	return err
}

// fillGateways returns the pools with those of the addresses as gateways that are in a pool without one.
func fillGateways(pools []Pool, addresses []netip.Addr) []Pool {
	filled := slices.Clone(pools)
	for i := range filled {
		p := &filled[i]
		for _, a := range addresses {
			if !p.Gateway.IsValid() && p.Subnet.Contains(a) {
				p.Gateway = a
			}
		}
	}
	return filled
}

// adoptEndpoint tracks an endpoint whose host end is there; without one it does nothing.
func (d *Driver) adoptEndpoint(ctx context.Context, adopted AdoptedEndpoint) error {
	if err := adopted.check(); err != nil {
		return err
	}
	if adopted.MAC.IsZero() {
		return fmt.Errorf("%w: Docker tells no MAC", ErrInvalid)
	}
	// Docker may have had it deleted since Docker's list was read.
	if err := d.removals.waitEndpoint(ctx, adopted.ID); err != nil {
		return err
	}
	ep := Endpoint{
		ID: adopted.ID, Network: adopted.Network, HostEnd: hostEndName(adopted.ID),
		MAC: adopted.MAC, Addresses: adopted.Addresses, Router: adopted.Router, Sandbox: adopted.Sandbox,
		Gateways: adopted.Gateways, External: adopted.External,
		Created: time.Now().UTC(),
	}
	link, err := findLink(ep.HostEnd)
	if err != nil || link == nil {
		return err
	}
	attached, err := tc.Look(link)
	if err != nil {
		return err
	}
	ep.Programs = attached != tc.Attached{}
	if err := d.takeOver(ctx, ep, link); err != nil {
		return err
	}
	d.tracked.addEndpoint(ep, causeOf(ctx))
	d.left.dropEndpoint(ep.ID)
	d.logOf(ep).Warn("adopting an endpoint that Docker knows and the state does not")
	link, err = findLink(ep.HostEnd) // again: its carrier may have come up before it was tracked
	if err != nil {
		return err
	}
	d.tracked.setCarrier(ep.HostEnd, link != nil && hasCarrier(link))
	return nil
}

// takeOver records the endpoint and gives its host end, which an earlier state may have made, this state's alias. The
// record comes first, for the same reason as a network's.
func (d *Driver) takeOver(ctx context.Context, ep Endpoint, hostEnd netlink.Link) (err error) {
	var u undo
	defer u.onError(&err)
	u.push(func() error { return d.eraseEndpoint(context.WithoutCancel(ctx), ep) })
	if err := d.writeEndpoint(ctx, ep, Made); err != nil {
		return err
	}
	old, ok := parseAlias(hostEnd.Attrs().Alias)
	want := endpointAlias(d.stateID, ep.ID)
	if !ok || old == want || !old.sameSubject(want) {
		return nil
	}
	d.step("take over link")
	if err := netlink.LinkSetAlias(hostEnd, want.String()); err != nil {
		return fmt.Errorf("take over %s: %w", ep.HostEnd, err)
	}
	return nil
}
