// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"net/netip"
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
// container after the other, apart from the configurator: a container whose routes never come keeps up nobody else.
type limiter struct {
	d     *Driver
	tried map[int]int // how often, by the index of the port; limitAttempts when it has been done
}

// limit is what a port of WayOut needs.
type limit struct {
	ep   Endpoint // one of its container
	mtu  int      // bytes
	port int      // index
}

// lookAtWaysOut has the limiter look at the ports of WayOut.
func (d *Driver) lookAtWaysOut() {
	select {
	case d.waysOutChanged <- struct{}{}:
	default: // it is about to look
	}
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
	tried := map[int]int{}
	for _, limit := range l.d.limits(bridge, links) {
		tried[limit.port] = l.tried[limit.port]
		if tried[limit.port] >= limitAttempts {
			continue
		}
		tried[limit.port]++
		err := l.d.launcher.Limit(ctx, limit.ep.Sandbox, protocol.Limit{Peer: limit.port, MTU: limit.mtu})
		log := l.d.logOf(limit.ep).WithField("sandbox", limit.ep.Sandbox).WithField("mtu", limit.mtu)
		switch {
		case err == nil:
			tried[limit.port] = limitAttempts
			log.Debug("the container's way out has the network's MTU")
		case tried[limit.port] < limitAttempts:
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
	for _, nw := range d.tracked.Networks() {
		if nw.limits(mtu) {
			return true
		}
	}
	return false
}

func (nw Network) limits(mtu int) bool { return !nw.Internal && nw.usesDockers() && nw.MTU < mtu }

// limits returns what the ports of WayOut need: the smallest MTU of the networks that a container has over it.
func (d *Driver) limits(bridge netlink.Link, links []netlink.Link) map[int]limit {
	ports, namespaces := map[int]int{}, map[string]int{} // by the namespace of the other end; by name
	for _, link := range links {
		a := link.Attrs()
		namespaces[a.Name] = a.NetNsID
		if a.MasterIndex == bridge.Attrs().Index && hasCarrier(link) {
			ports[a.NetNsID] = a.Index
		}
	}
	found := map[int]limit{}
	for _, ep := range d.tracked.Endpoints() {
		nw, _ := d.tracked.network(ep.Network)
		namespace, there := namespaces[ep.HostEnd]
		port, hasPort := ports[namespace]
		if ep.State() != Up || len(ep.Gateways) > 0 || !nw.limits(bridge.Attrs().MTU) || !there || !hasPort {
			continue
		}
		if old, ok := found[port]; !ok || nw.MTU < old.mtu {
			found[port] = limit{ep, nw.MTU, port}
		}
	}
	return found
}

// besideDockers returns the way out by IPv6 of an endpoint whose container has WayOut for IPv4: that has none by IPv6.
func (def Definition) besideDockers(ep Endpoint) netip.Addr {
	if !def.hasGateway() || ep.Sandbox == "" || len(ep.Gateways) > 0 {
		return netip.Addr{}
	}
	_, ipv6 := def.gatewaysOf(ep)
	return ipv6
}
