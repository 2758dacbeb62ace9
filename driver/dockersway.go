// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// wayOutPort is a port of WayOut that is up: the host end of what a container with ports has there.
type wayOutPort struct {
	index     int // of the host end
	namespace int // id of the container's namespace
	mtu       int // bytes
}

// portsBuffer is how many ports of WayOut may wait for the routes out of them to be limited.
const portsBuffer = 1024

// noteWayOut notes that a container has got a way out over WayOut, or got it anew.
func (d *Driver) noteWayOut(port wayOutPort) {
	select {
	case d.wayOutPorts <- port:
	default:
		d.log.Warnf("too many containers at once: that of port %d of %s keeps its MTU", port.index, WayOut)
	}
}

// noteWaysOut notes those ports of WayOut, among all links of the host, whose containers are wanted.
func (d *Driver) noteWaysOut(links []netlink.Link, wanted func(namespace int) bool) {
	bridge := 0
	for _, link := range links {
		if link.Attrs().Name == WayOut {
			bridge = link.Attrs().Index
		}
	}
	for _, link := range links {
		a := link.Attrs()
		if bridge != 0 && a.MasterIndex == bridge && hasCarrier(link) && wanted(a.NetNsID) {
			d.noteWayOut(wayOutPort{a.Index, a.NetNsID, a.MTU})
		}
	}
}

// noteWayOutOf notes the port of WayOut of an endpoint's container, which has had it before it got the endpoint.
func (c *configurator) noteWayOutOf(ctx context.Context, ep Endpoint) {
	nw, ok := c.d.tracked.network(ep.Network)
	bridge, err := findLink(WayOut)
	if !ok || nw.Internal || len(ep.Gateways) > 0 || err != nil || bridge == nil || nw.MTU >= bridge.Attrs().MTU {
		return
	}
	hostEnd, err := findLink(ep.HostEnd)
	if err != nil || hostEnd == nil {
		return
	}
	if links, err := listLinks(ctx); err == nil {
		c.d.noteWaysOut(links, func(namespace int) bool { return namespace == hostEnd.Attrs().NetNsID })
	}
}

// followWaysOut has the routes of containers out of WayOut keep to the MTU of their network, until ctx ends.
func (c *configurator) followWaysOut(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case port := <-c.d.wayOutPorts:
			c.limit(ctx, port)
		}
	}
}

// limit has nsproc limit the routes of one container, in the background, if its network has a smaller MTU than WayOut.
func (c *configurator) limit(ctx context.Context, port wayOutPort) {
	ep, mtu := c.d.limitOf(port)
	if mtu == 0 {
		return
	}
	c.group.Go(func() {
		if c.slots.Acquire(ctx, 1) != nil {
			return
		}
		defer c.slots.Release(1)
		ctx, cancel := context.WithTimeout(ctx, configureTime)
		defer cancel()
		log := c.d.logOf(ep).WithField("sandbox", ep.Sandbox).WithField("mtu", mtu)
		err := c.d.launcher.Limit(ctx, ep.Sandbox, protocol.Limit{Peer: port.index, MTU: mtu})
		if err != nil {
			log.WithError(err).Debug("the container's way out keeps its MTU")
			return
		}
		log.Debug("the container's way out has the network's MTU")
	})
}

// limitOf returns the smallest MTU of the networks that the container at a port of WayOut is on and has its way out
// from, with its endpoint there; 0: none is smaller than the port's.
func (d *Driver) limitOf(port wayOutPort) (ep Endpoint, mtu int) {
	for _, nw := range d.tracked.Networks() {
		if nw.Internal || !nw.usesDockers() || nw.MTU >= port.mtu || mtu != 0 && nw.MTU >= mtu {
			continue
		}
		for _, candidate := range d.tracked.endpointsOf(nw.ID) {
			if candidate.Sandbox == "" || len(candidate.Gateways) > 0 {
				continue
			}
			link, err := findLink(candidate.HostEnd)
			if err == nil && link != nil && link.Attrs().NetNsID == port.namespace {
				ep, mtu = candidate, nw.MTU
			}
		}
	}
	return ep, mtu
}

// besideDockers returns the way out by IPv6 of an endpoint whose container has WayOut for IPv4: that has none by IPv6.
func (def Definition) besideDockers(ep Endpoint) netip.Addr {
	if !def.hasGateway() || ep.Sandbox == "" || len(ep.Gateways) > 0 {
		return netip.Addr{}
	}
	_, ipv6 := def.gatewaysOf(ep)
	return ipv6
}
