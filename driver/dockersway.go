// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/wait"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

const (
	// limitPause is the time between two looks at the ports of WayOut, so that a container can't cause more.
	limitPause = 100 * time.Millisecond
	// limitAttempts is how often it is tried to limit the routes of a container.
	limitAttempts = 3
)

// limiter has the routes of containers out of WayOut keep to the MTU of their network, where that is smaller. One
// container after the other, apart from the configurator: a container whose routes never come keeps up no announcement.
type limiter struct {
	d     *Driver
	tried map[limit]int // how often; limitAttempts when it has been done
}

// limit is the MTU, in bytes, that the routes out of a port of WayOut, by its index, need.
type limit struct{ port, mtu int }

// lookAtWaysOut has the limiter look at the ports of WayOut.
func (d *Driver) lookAtWaysOut() {
	wait.Signal(d.waysOutChanged)
}

// run looks at the ports of WayOut each time something about them or the endpoints has changed, until ctx ends.
func (l *limiter) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.d.waysOutChanged:
			if err := l.limitAll(ctx); err != nil && ctx.Err() == nil {
				l.d.log.WithError(err).Warnf("look at the ports of %s", WayOut)
			}
			wait.For(ctx, limitPause)
		}
	}
}

// limitAll limits what is not limited yet.
func (l *limiter) limitAll(ctx context.Context) error {
	bridge, err := findLink(WayOut)
	if err != nil || bridge == nil || !l.d.hasSmaller(bridge.Attrs().MTU) {
		return err
	}
	links, err := listLinks(ctx)
	if err != nil {
		return err
	}
	tried := map[limit]int{}
	for port, c := range l.d.limited(bridge, links) {
		wanted := limit{port, c.mtu}
		tried[wanted] = l.tried[wanted]
		if tried[wanted] >= limitAttempts {
			continue
		}
		tried[wanted]++
		err := l.d.launcher.Limit(ctx, c.ep.Sandbox, protocol.Limit{Peer: port, MTU: c.mtu})
		log := l.d.logOf(c.ep).WithField("sandbox", c.ep.Sandbox).WithField("mtu", c.mtu)
		switch {
		case err == nil:
			tried[wanted] = limitAttempts
			log.Debug("the container's way out has the network's MTU")
		case tried[wanted] < limitAttempts:
			log.WithError(err).Debug("the container's way out has not the network's MTU: trying again")
			l.d.lookAtWaysOut()
		case ctx.Err() == nil:
			log.WithError(err).Warn("the container's way out has not the network's MTU, but docker_gwbridge's")
		}
	}
	l.tried = tried
	return nil
}

// hasSmaller reports whether a network whose containers may have their way out over WayOut has a smaller MTU.
func (d *Driver) hasSmaller(mtu int) bool {
	return slices.ContainsFunc(d.tracked.Networks(), func(nw Network) bool { return nw.limits(mtu) })
}

func (nw Network) limits(mtu int) bool { return !nw.Internal && nw.usesDockers() && nw.MTU < mtu }

// limitedEnd is an endpoint of a container, and the MTU of its network.
type limitedEnd struct {
	ep  Endpoint
	mtu int // bytes
}

// limited returns, by the index of a port of WayOut, that endpoint of its container whose network has the smallest MTU
// of those that have their way out there.
func (d *Driver) limited(bridge netlink.Link, links []netlink.Link) map[int]limitedEnd {
	ports, namespaces := map[int]int{}, map[string]int{} // by the namespace of the other end; by name
	for _, link := range links {
		a := link.Attrs()
		if a.NetNsID < 0 { // its other end is in no container
			continue
		}
		namespaces[a.Name] = a.NetNsID
		if a.MasterIndex == bridge.Attrs().Index && hasCarrier(link) {
			ports[a.NetNsID] = a.Index
		}
	}
	found := map[int]limitedEnd{}
	for _, ep := range d.tracked.Endpoints() {
		nw, _ := d.tracked.network(ep.Network)
		namespace, there := namespaces[ep.HostEnd]
		port, hasPort := ports[namespace]
		byOwn := slices.ContainsFunc(ep.Gateways, netip.Addr.Is4)
		if ep.State() != Up || byOwn || !nw.limits(bridge.Attrs().MTU) || !there || !hasPort {
			continue
		}
		if old, ok := found[port]; !ok || nw.MTU < old.mtu {
			found[port] = limitedEnd{ep, nw.MTU}
		}
	}
	return found
}

// leavesByRouter reports whether the endpoint's container is on another network whose router is somebody else. What
// such a router does not take must not leave another way.
func (d *Driver) leavesByRouter(ep Endpoint) bool {
	return slices.ContainsFunc(d.tracked.Endpoints(), func(other Endpoint) bool {
		nw, ok := d.tracked.network(other.Network)
		return ok && other.Sandbox == ep.Sandbox && other.ID != ep.ID && nw.hasRouter() && len(other.Gateways) > 0
	})
}

// besideDockers returns the way out by IPv6 of an endpoint that Docker does not set: its container has WayOut for IPv4,
// which has none by IPv6, or the network has a gateway for IPv6 alone, which Docker before 28 passes over.
func (def Definition) besideDockers(ep Endpoint) netip.Addr {
	if ep.Sandbox == "" || len(ep.Gateways) == 0 && !def.hasGateway() {
		return netip.Addr{}
	}
	ipv4, ipv6 := def.gatewaysOf(ep)
	if len(ep.Gateways) > 0 && ipv4.IsValid() {
		return netip.Addr{}
	}
	return ipv6
}
