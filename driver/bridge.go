// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/internal/mac"
)

// bridge describes a network's bridge.
type bridge struct {
	wanted
	OwnName string // the name that weave gives by itself; the bridge's name may be the user's choice
	MAC     mac.Address
}

func (d *Driver) bridgeOf(nw Network) bridge {
	return bridge{wantedBridge(d.stateID, nw), nw.bridgeName(), nw.gatewayMAC()}
}

// wantedBridge is the network's bridge as weave makes it.
func wantedBridge(stateID string, nw Network) wanted {
	want := wanted{name: nw.Bridge, kind: "bridge", alias: networkAlias(stateID, nw.ID), mtu: nw.MTU}
	want.ipv6 = nw.VNI != 0 && nw.hasIPv6()
	if want.gateways = nw.bridgeAddresses(); len(want.gateways) == 0 {
		want.programs = tc.AtBridge()
	}
	return want
}

// ensureNetworkBridge returns the network's bridge, made or repaired if it is weave's own.
func (d *Driver) ensureNetworkBridge(ctx context.Context, nw Network) (*hostLink, error) {
	if !nw.Foreign {
		return d.links.ensureBridge(ctx, d.bridgeOf(nw))
	}
	link, err := findHostLink(nw.Bridge)
	switch {
	case err != nil:
		return nil, err
	case !isBridge(link):
		return nil, errForeignBridgeGone(nw.Bridge)
	}
	return link, nil
}

// isBridge reports whether a link is there and is a bridge.
func isBridge(link *hostLink) bool { return link != nil && link.Type() == "bridge" }

func errForeignBridgeGone(name string) error {
	return fmt.Errorf("%w: bridge %s, which is not weave's own, is gone: make it again (ip link add %s type bridge)",
		ErrNotFound, name, name)
}

// removeNetworkBridge removes the network's VXLAN device, and its bridge if it is weave's own: under the name that it
// has, and under the one that it was made with.
func (d *Driver) removeNetworkBridge(nw Network) error {
	if nw.VNI != 0 {
		if err := d.links.removeOurs(deviceName(nw.ID), "vxlan", networkAlias(d.stateID, nw.ID)); err != nil {
			return err
		}
	}
	if nw.Foreign {
		return nil
	}
	b := d.bridgeOf(nw)
	if err := d.links.removeOurs(b.OwnName, "bridge", b.alias); err != nil || b.name == b.OwnName {
		return err
	}
	return d.links.removeOurs(b.name, "bridge", b.alias)
}

// ensureBridge makes the bridge, or repairs the one that is there. A link that is no bridge, or that carries somebody
// else's alias, is ErrConflict.
func (l links) ensureBridge(ctx context.Context, b bridge) (*hostLink, error) {
	link, err := l.findOwn(b.wanted)
	switch {
	case err != nil:
		return nil, err
	case link == nil:
		if link, err = l.addBridge(b); err != nil {
			return nil, fmt.Errorf("make bridge %s: %w", b.name, err)
		}
	case len(b.flaws(link)) > 0: // if so, all that bears on it is worth a look
		all, err := listHostLinks(ctx)
		if err != nil {
			return nil, err
		}
		if now := all[link.Attrs().Name]; now != nil && now.Attrs().Index == link.Attrs().Index {
			link = now
		}
	}
	if err := l.mend(link, b.wanted, nil); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", b.name, err)
	}
	return link, nil
}

// addBridge makes a bridge. A bridge that the user has named gets that name last, after its alias. So even after a
// crash a bridge with that name and no alias is the user's own.
func (l links) addBridge(b bridge) (*hostLink, error) {
	link, err := findLink(b.OwnName) // a crash may have left it
	if err != nil {
		return nil, err
	}
	if link == nil {
		link = &netlink.Bridge{LinkAttrs: linkNamed(b.OwnName)}
		if len(b.gateways) > 0 {
			link.Attrs().HardwareAddr = b.MAC[:]
		}
		l.step("add bridge")
		if err := netlink.LinkAdd(link); err != nil {
			return nil, err
		}
	} else if err := checkOurs(link, b.kind, b.alias, 0); err != nil {
		return nil, err
	}
	if b.name != b.OwnName {
		l.step("set alias")
		if err := netlink.LinkSetAlias(link, b.alias.String()); err != nil {
			return nil, fmt.Errorf("set alias: %w", err)
		}
		l.step("name bridge")
		if err := netlink.LinkSetName(link, b.name); err != nil {
			return nil, fmt.Errorf("name it: %w", err)
		}
	}
	made, err := findHostLinkAt(link.Attrs().Index)
	if err == nil && made == nil {
		err = errors.New("it is gone already")
	}
	if err == nil {
		made.listed = true // so that it gets its addresses; it has none yet
	}
	return made, err
}
