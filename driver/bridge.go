// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// bridge describes a network's bridge.
type bridge struct {
	Name    string
	OwnName string // the name that weave gives by itself; Name may be the user's choice
	Alias   alias
	MTU     int
}

func (d *Driver) bridgeOf(nw Network) bridge {
	return bridge{Name: nw.Bridge, OwnName: bridgeName(nw.ID), Alias: networkAlias(d.stateID, nw.ID), MTU: nw.MTU}
}

// ensureNetworkBridge returns the network's bridge, made or repaired if it is weave's own.
func (d *Driver) ensureNetworkBridge(nw Network) (netlink.Link, error) {
	if !nw.Foreign {
		return d.links.ensureBridge(d.bridgeOf(nw))
	}
	link, err := findLink(nw.Bridge)
	switch {
	case err != nil:
		return nil, err
	case link == nil || link.Type() != "bridge":
		return nil, errForeignBridgeGone(nw.Bridge)
	}
	return link, nil
}

func errForeignBridgeGone(name string) error {
	return fmt.Errorf("%w: bridge %s, which is not weave's own, is gone: make it again (ip link add %s type bridge)",
		ErrNotFound, name, name)
}

// removeNetworkBridge removes the network's bridge if it is weave's own: under the name that it has, and under the one
// that it was made with.
func (d *Driver) removeNetworkBridge(nw Network) error {
	if nw.Foreign {
		return nil
	}
	b := d.bridgeOf(nw)
	if err := d.links.removeOurs(b.OwnName, "bridge", b.Alias); err != nil || b.Name == b.OwnName {
		return err
	}
	return d.links.removeOurs(b.Name, "bridge", b.Alias)
}

// ensureBridge makes the bridge, or repairs the one that is there. A link that is no bridge, or that carries somebody
// else's alias, is ErrConflict.
func (l links) ensureBridge(b bridge) (netlink.Link, error) {
	link, err := findLink(b.Name)
	if err != nil {
		return nil, err
	}
	if link == nil {
		if link, err = l.addBridge(b); err != nil {
			return nil, fmt.Errorf("make bridge %s: %w", b.Name, err)
		}
	} else if err := checkOurs(link, "bridge", b.Alias); err != nil {
		return nil, err
	}
	if link.Attrs().Flags&net.FlagUp == 0 {
		if err := l.isolateHost(b.Name); err != nil {
			return nil, fmt.Errorf("bridge %s: isolate the host from it: %w", b.Name, err)
		}
		if err := l.setBridgeProgram(link); err != nil {
			return nil, err
		}
	}
	if err := l.setUp(link, b.Alias, b.MTU); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", b.Name, err)
	}
	return link, nil
}

// addBridge makes a bridge. A bridge that the user has named gets that name last, after its alias. So even after a
// crash a bridge with that name and no alias is the user's own.
func (l links) addBridge(b bridge) (netlink.Link, error) {
	link, err := findLink(b.OwnName) // a crash may have left it
	if err != nil {
		return nil, err
	}
	if link == nil {
		link = &netlink.Bridge{LinkAttrs: linkNamed(b.OwnName)}
		l.step("add bridge")
		if err := netlink.LinkAdd(link); err != nil {
			return nil, err
		}
	} else if err := checkOurs(link, "bridge", b.Alias); err != nil {
		return nil, err
	}
	if b.Name == b.OwnName {
		return link, nil
	}
	l.step("set alias")
	if err := netlink.LinkSetAlias(link, b.Alias.String()); err != nil {
		return nil, fmt.Errorf("set alias: %w", err)
	}
	l.step("name bridge")
	if err := netlink.LinkSetName(link, b.Name); err != nil {
		return nil, fmt.Errorf("name it: %w", err)
	}
	return netlink.LinkByIndex(link.Attrs().Index)
}

// hostIsolation are the settings of a bridge that keep the host itself apart from its network: the host accepts no
// router advertisement, answers no ARP request and receives no packet. Frames from port to port still pass.
var hostIsolation = []struct{ path, value string }{
	{"/proc/sys/net/ipv6/conf/%s/accept_ra", "0"},
	{"/proc/sys/net/ipv6/conf/%s/disable_ipv6", "1"},
	{"/proc/sys/net/ipv4/conf/%s/arp_ignore", "8"},
	{"/proc/sys/net/ipv4/conf/%s/rp_filter", "1"}, // drops every packet, since no route leads back
}

// isolateHost keeps containers from reaching the host's addresses, and from giving it addresses and a default route by
// a router advertisement. A host without IPv6 has no settings for that and needs none. In a managed plugin /proc/sys
// is read-only, so the settings are written in the /proc of the host's root.
func (l links) isolateHost(bridge string) error {
	for _, s := range hostIsolation {
		path := filepath.Join("/", l.root, fmt.Sprintf(s.path, bridge))
		err := os.WriteFile(path, []byte(s.value), 0)
		if err != nil && !(errors.Is(err, fs.ErrNotExist) && strings.Contains(s.path, "/ipv6/")) {
			return err
		}
	}
	return nil
}
