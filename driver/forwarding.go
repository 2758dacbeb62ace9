// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/driver/firewall"
)

// busPath is where the system's D-Bus is, by which firewalld is told of bridges.
const busPath = "/run/dbus/system_bus_socket"

// setForwarding has the firewall let packets out of the networks that have gateways, and frames pass on the bridges of
// all tracked networks whose frames are not tagged and on those that are left alone for the containers on them, and on
// no others of this state's. Several requests may do so at once: each computes its set only when the earlier one is in
// place, so that no older set replaces a newer one. After an error the firewall keeps trying until another set is
// wanted.
func (d *Driver) setForwarding(ctx context.Context) error {
	if err := d.forwarding.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("wait for other changes of the firewall: %w", err)
	}
	defer d.forwarding.Release(1)
	var bridges []firewall.Bridge
	for bridge, id := range d.left.bridges() {
		b := firewall.Bridge{Name: bridge, NetworkID: string(id)}
		gateways, err := leftGateways(bridge)
		if err != nil {
			return err
		}
		for _, gateway := range gateways {
			b.Gateways = append(b.Gateways, firewall.Gateway{Prefix: gateway, Masquerade: true})
		}
		bridges = append(bridges, b)
	}
	for _, nw := range d.tracked.Networks() {
		var gateways []firewall.Gateway
		for _, gateway := range nw.OwnGateways() {
			translated := nw.Translates(gateway.Addr())
			gateways = append(gateways, firewall.Gateway{Prefix: gateway, Masquerade: translated})
		}
		if nw.Phase != Going && (!nw.Tagged || len(gateways) > 0) {
			bridges = append(bridges, firewall.Bridge{
				Name: nw.Bridge, NetworkID: string(nw.ID), Foreign: nw.Foreign,
				IPv6: slices.ContainsFunc(nw.Pools, isIPv6), Gateways: gateways, HostApart: nw.HostApart,
			})
		}
	}
	d.step("set firewall rules")
	if err := d.firewall.Set(ctx, bridges); err != nil { // before the host routes: nothing enters a network unasked
		return err
	}
	d.ruled.Store(true)
	if err := d.keepForwarding(); err != nil { // no fault of the network that is made or removed now
		d.log.WithError(err).Warn("the ways out of networks are closed")
	}
	return nil
}

// keepForwarding has the host route packets again, if somebody has switched that off while networks have their gateways
// here. Without rules it must not: anything could enter them.
func (d *Driver) keepForwarding() error {
	if !d.ruled.Load() {
		return nil
	}
	var gateways []netip.Prefix
	for _, nw := range d.tracked.Networks() {
		if nw.Phase == Made {
			gateways = append(gateways, nw.OwnGateways()...)
		}
	}
	var errs []error
	for bridge := range d.left.bridges() {
		left, err := leftGateways(bridge)
		gateways, errs = append(gateways, left...), append(errs, err)
	}
	return errors.Join(append(errs, d.forward(gateways))...)
}

// leftGateways returns the gateways at a bridge that is left alone.
func leftGateways(bridge string) ([]netip.Prefix, error) {
	if !strings.HasPrefix(bridge, gatewayPrefix) {
		return nil, nil
	}
	return addressesAt(bridge)
}

func isIPv6(p Pool) bool { return p.Subnet.Addr().Is6() }

// livingStates returns the ids of the states that have links on this host. The rules of one that has none are left
// over.
func livingStates() (map[string]bool, error) {
	all, err := listLinks(context.Background()) // which waits dumpTime at most
	if err != nil {
		return nil, err
	}
	states := map[string]bool{}
	for _, link := range all {
		if a, ok := parseAlias(link.Attrs().Alias); ok {
			states[a.State] = true
		}
	}
	return states, nil
}
