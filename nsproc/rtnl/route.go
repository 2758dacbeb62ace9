// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/record"
)

// decodeRoute decodes an RTM_NEWROUTE. It returns one route for each of the gateways, and none if the route is not in
// the main table.
func decodeRoute(b []byte) ([]netstate.Route, error) {
	if len(b) < unix.SizeofRtMsg {
		return nil, errShort
	}
	family, bits, table := b[0], int(b[1]), uint32(b[4])
	if native.Uint32(b[8:])&unix.RTM_F_CLONED != 0 { // a cache entry
		return nil, nil
	}
	dst := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	} else if family != unix.AF_INET {
		return nil, nil
	}
	var r netstate.Route
	var paths []netstate.Route
	err := EachAttr(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.RTA_DST:
			dst, err = addr(family, v)
		case unix.RTA_PRIORITY:
			r.Metric, err = number(v)
		case unix.RTA_TABLE:
			table, err = number32(v)
		case unix.RTA_MULTIPATH:
			paths, err = decodePaths(family, v)
		case unix.RTA_METRICS:
			r.MTU, err = decodeMTU(v)
		default:
			err = nexthop(&r, family, typ, v)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if table != unix.RT_TABLE_MAIN {
		return nil, nil
	}
	if r.Destination, err = prefixOf(dst, bits); err != nil {
		return nil, err
	}
	if paths == nil {
		return []netstate.Route{r}, nil
	}
	for i := range paths {
		paths[i].Destination, paths[i].Metric, paths[i].MTU = r.Destination, r.Metric, r.MTU
	}
	return paths, nil
}

// decodePaths decodes RTA_MULTIPATH: several struct rtnexthop, each followed by its attributes.
func decodePaths(family byte, b []byte) ([]netstate.Route, error) {
	var paths []netstate.Route
	for len(b) > 0 {
		if len(b) < unix.SizeofRtNexthop {
			return nil, errShort
		}
		n := int(native.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			return nil, errShort
		}
		r := netstate.Route{Link: int(int32(native.Uint32(b[4:])))}
		err := EachAttr(b[unix.SizeofRtNexthop:n], func(typ uint16, v []byte) error {
			return nexthop(&r, family, typ, v)
		})
		if err != nil {
			return nil, err
		}
		paths = append(paths, r)
		b = b[min(align(n), len(b)):]
	}
	return paths, nil
}

// nexthop sets the link or the gateway of r if the attribute is one of these.
func nexthop(r *netstate.Route, family byte, typ uint16, v []byte) (err error) {
	switch typ {
	case unix.RTA_OIF:
		r.Link, err = number(v)
	case unix.RTA_GATEWAY:
		r.Gateway, err = addr(family, v)
	case unix.RTA_VIA: // a gateway of the other family
		if len(v) < 2 {
			return errShort
		}
		r.Gateway, err = addr(byte(native.Uint16(v)), v[2:])
	}
	return err
}

// decodeMTU decodes the MTU of RTA_METRICS; 0: there is none.
func decodeMTU(metrics []byte) (mtu int, err error) {
	err = EachAttr(metrics, func(typ uint16, v []byte) (err error) {
		if typ == unix.RTAX_MTU {
			mtu, err = number(v)
		}
		return err
	})
	return mtu, err
}

// Routes returns the routes of the main table, in the kernel's order.
func (c *Conn) Routes() ([]netstate.Route, error) {
	var routes []netstate.Route
	request := make([]byte, unix.SizeofRtMsg)
	err := c.dump(unix.RTM_GETROUTE, request, func() { routes = nil }, func(m Message) error {
		more, err := decodeRoute(m.Payload)
		routes = append(routes, more...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return routes, nil
}

// SetRoute adds a route to the main table. It replaces a route to the same destination with the same metric.
func (c *Conn) SetRoute(r netstate.Route) error {
	return c.change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, routeRequest(r))
}

// RemoveRoute removes a route from the main table. One that is not there is no error.
func (c *Conn) RemoveRoute(r netstate.Route) error {
	if err := c.change(unix.RTM_DELROUTE, 0, routeRequest(r)); !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

func routeRequest(r netstate.Route) []byte {
	dst := r.Destination.Masked().Addr()
	request := make([]byte, unix.SizeofRtMsg)
	request[0], request[1] = familyOf(dst), byte(r.Destination.Bits())
	request[4], request[5], request[6], request[7] =
		unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_LINK, unix.RTN_UNICAST
	request = appendAttr(request, unix.RTA_DST, dst.AsSlice())
	request = appendAttr32(request, unix.RTA_OIF, uint32(r.Link))
	request = appendAttr32(request, unix.RTA_PRIORITY, uint32(r.Metric))
	if r.Gateway.IsValid() {
		request[6] = unix.RT_SCOPE_UNIVERSE
		request = appendAttr(request, unix.RTA_GATEWAY, r.Gateway.AsSlice())
	}
	if r.MTU > 0 {
		request = appendAttr(request, unix.RTA_METRICS, appendAttr32(nil, unix.RTAX_MTU, uint32(r.MTU)))
	}
	return request
}

func familyOf(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// RouteEvents tells of changes of routes in a namespace, main table or not.
type RouteEvents struct{ conn *Conn }

// DialRouteEvents subscribes to the changes from now on in the namespace of the calling thread. Wait waits for one no
// longer than the timeout.
func DialRouteEvents(timeout time.Duration, recorder *record.Recorder) (*RouteEvents, error) {
	conn, err := DialRecorded(recorder)
	if err != nil {
		return nil, err
	}
	// A socket that is not bound to a port is sent no events.
	tv := unix.NsecToTimeval(timeout.Nanoseconds())
	err = errors.Join(unix.SetsockoptTimeval(conn.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.Bind(conn.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	for _, group := range []int{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE} {
		if err == nil {
			err = unix.SetsockoptInt(conn.fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		}
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("subscribe to changes of routes: %w", err)
	}
	return &RouteEvents{conn}, nil
}

// Wait waits for a change. When it has missed some it returns, too.
func (e *RouteEvents) Wait() error {
	if _, err := e.conn.receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
		return err
	}
	return nil
}

// Close ends the subscription.
func (e *RouteEvents) Close() error { return e.conn.Close() }
