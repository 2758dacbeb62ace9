// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/record"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

const (
	// routeTime is how long limit waits for the next change of a route: Docker adds them just after the link is up.
	routeTime = 2 * time.Second
	// minMTUIPv6 is the smallest MTU, in bytes, that a route of IPv6 can have (RFC 8200).
	minMTUIPv6 = 1280
)

// limit gives the default routes out of a link an MTU.
func limit(l protocol.Limit, recorder *record.Recorder) error {
	events, err := rtnl.DialRouteEvents(routeTime, recorder) // before the routes are listed, so that none is missed
	if err != nil {
		return err
	}
	defer events.Close()
	conn, err := rtnl.DialRecorded(recorder)
	if err != nil {
		return err
	}
	defer conn.Close()
	links, err := conn.Links(rtnl.Here)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(links, func(link netstate.Link) bool { return link.Kind == "veth" && link.Peer == l.Peer })
	if i < 0 {
		return fmt.Errorf("no veth with peer %d here: %w", l.Peer, unix.ENODEV)
	}
	link := links[i]
	for deadline := time.Now().Add(routeTime); ; {
		missing, err := limitRoutes(conn, link, l.MTU)
		if err != nil || !missing {
			return err
		}
		if err = events.Wait(); err == nil && time.Now().After(deadline) {
			err = unix.EAGAIN // other routes change all the time
		}
		if err != nil {
			return fmt.Errorf("wait for a default route out of %s: %w", link.Name, err)
		}
	}
}

// limitRoutes gives the default routes that are there the MTU. It reports whether one is missing of a family of which
// the link has an address.
func limitRoutes(conn *rtnl.Conn, link netstate.Link, mtu int) (missing bool, err error) {
	routes, err := conn.Routes()
	if err != nil {
		return false, err
	}
	found := map[bool]bool{} // by whether it is IPv6
	for _, r := range routes {
		is6 := r.Destination.Addr().Is6()
		if r.Link != link.Index || r.Destination.Bits() > 0 {
			continue
		}
		found[is6] = true
		if (r.MTU == 0 || r.MTU > mtu) && (!is6 || mtu >= minMTUIPv6) {
			r.MTU = mtu
			if err := conn.SetRoute(r); err != nil {
				return false, fmt.Errorf("give the default route out of %s an MTU of %d: %w", link.Name, mtu, err)
			}
		}
	}
	return slices.ContainsFunc(link.Addresses, func(a netip.Prefix) bool {
		return !a.Addr().IsLinkLocalUnicast() && !found[a.Addr().Is6()]
	}), nil
}
