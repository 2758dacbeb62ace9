// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/announce"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/record"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// multicastMetric is added to a link's index for the metric of its multicast route, so that the routes of several
// links do not replace each other. A program that names no link sends out of the one with the lowest index.
const multicastMetric = 1000

// ipv6GatewayMetric is added to a link's index for the metric of a default route, likewise. It is above that of
// Docker's default route, which has the kernel's default, 1024.
const ipv6GatewayMetric = 2048

var anywhereIPv6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)

var multicast = netip.MustParsePrefix("224.0.0.0/4")

// configure configures the container end. It returns what it left out and why.
func configure(c protocol.Configure, recorder *record.Recorder) (skipped []string, err error) {
	conn, err := rtnl.DialRecorded(recorder)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	links, err := conn.Links(rtnl.Here)
	if err != nil {
		return nil, err
	}
	link, err := containerEnd(links, c)
	if err != nil {
		return nil, err
	}
	if c.Multicast {
		route := netstate.Route{Destination: multicast, Link: link.Index, Metric: multicastMetric + link.Index}
		if err := conn.SetRoute(route); err != nil {
			return nil, fmt.Errorf("route %s out of %s: %w", multicast, link.Name, err)
		}
	}
	if err := setIPv6Gateway(conn, link, c.IPv6Gateway); err != nil { // as in a container without IPv6
		skipped = append(skipped, fmt.Sprintf("route by %s out of %s: %v", c.IPv6Gateway, link.Name, err))
	}
	var added []netip.Addr
	for _, gateway := range c.Gateways {
		if err := conn.AddAddress(link.Index, gateway); err != nil { // as in a container without IPv6
			skipped = append(skipped, fmt.Sprintf("add address %s of the gateway to %s: %v", gateway, link.Name, err))
			continue
		}
		added = append(added, gateway)
	}
	if err := announceGateways(link, added); err != nil {
		return nil, err
	}
	if c.Announce {
		missing, err := announceAll(link, c.Addresses)
		if err != nil {
			return nil, err
		}
		skipped = append(skipped, missing...)
	}
	return skipped, nil
}

// setIPv6Gateway makes the default route out of the link, or removes it if there is no gateway.
func setIPv6Gateway(conn *rtnl.Conn, link netstate.Link, gateway netip.Addr) error {
	route := netstate.Route{
		Destination: anywhereIPv6, Gateway: gateway, Link: link.Index, Metric: ipv6GatewayMetric + link.Index,
	}
	if !gateway.IsValid() {
		return conn.RemoveRoute(route)
	}
	return conn.SetRoute(route)
}

// containerEnd returns the veth that has the peer and the MAC requested. Another veth may have the same index for its
// peer, in another namespace.
func containerEnd(links []netstate.Link, c protocol.Configure) (netstate.Link, error) {
	other := ""
	for _, l := range links {
		if l.Kind != "veth" || l.Peer != c.Peer {
			continue
		}
		if l.MAC == c.MAC {
			return l, nil
		}
		other = fmt.Sprintf(", only %s with MAC %s", l.Name, l.MAC)
	}
	return netstate.Link{}, fmt.Errorf("no veth with peer %d and MAC %s here%s: %w", c.Peer, c.MAC, other, unix.ENODEV)
}

// announceGateways tells all stations that the link's MAC is the gateways' from now on.
func announceGateways(link netstate.Link, gateways []netip.Addr) error {
	var frames [][]byte
	for _, gateway := range gateways {
		frames = append(frames, announce.Frame(link.MAC, gateway))
	}
	if err := announce.Send(link.Index, frames); err != nil {
		return fmt.Errorf("announce gateways on %s: %w", link.Name, err)
	}
	return nil
}

// announceAll announces those of the addresses that the link has. It returns the others, with the reason.
func announceAll(link netstate.Link, addresses []netip.Prefix) (missing []string, err error) {
	var frames [][]byte
	for _, p := range addresses {
		if slices.ContainsFunc(link.Addresses, func(q netip.Prefix) bool { return p.Addr() == q.Addr() }) {
			frames = append(frames, announce.Frame(link.MAC, p.Addr()))
		} else {
			missing = append(missing, fmt.Sprintf("announce %s: not on %s", p.Addr(), link.Name))
		}
	}
	if err := announce.Send(link.Index, frames); err != nil {
		return nil, fmt.Errorf("announce addresses on %s: %w", link.Name, err)
	}
	return missing, nil
}
