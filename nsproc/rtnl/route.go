// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/netstate"
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
	err := eachAttr(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.RTA_DST:
			dst, err = addr(family, v)
		case unix.RTA_PRIORITY:
			r.Metric, err = number(v)
		case unix.RTA_TABLE:
			table, err = number32(v)
		case unix.RTA_MULTIPATH:
			paths, err = decodePaths(family, v)
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
		paths[i].Destination, paths[i].Metric = r.Destination, r.Metric
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
		err := eachAttr(b[unix.SizeofRtNexthop:n], func(typ uint16, v []byte) error {
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

// SetRoute adds a route to a directly attached subnet to the main table. It replaces a route to the same destination
// with the same metric.
func (c *Conn) SetRoute(r netstate.Route) error {
	dst := r.Destination.Masked().Addr()
	family := byte(unix.AF_INET6)
	if dst.Is4() {
		family = unix.AF_INET
	}
	request := make([]byte, unix.SizeofRtMsg)
	request[0], request[1] = family, byte(r.Destination.Bits())
	request[4], request[5], request[6], request[7] =
		unix.RT_TABLE_MAIN, unix.RTPROT_STATIC, unix.RT_SCOPE_LINK, unix.RTN_UNICAST
	request = appendAttr(request, unix.RTA_DST, dst.AsSlice())
	request = appendAttr32(request, unix.RTA_OIF, uint32(r.Link))
	request = appendAttr32(request, unix.RTA_PRIORITY, uint32(r.Metric))
	return c.change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, request)
}
