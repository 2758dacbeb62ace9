// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/netstate"
)

// Wanted says what is listed besides links and addresses.
type Wanted struct {
	Routes, Neighbours bool
	Rules              bool // of policy routing
}

// Dump returns the kernel's own messages about the links and addresses of the connection's namespace, and what else is
// wanted, each padded to four bytes, with an NLMSG_DONE at the end. Decode, in another process, reads them: so the
// process in the sandbox does less.
func (c *Conn) Dump(w Wanted) ([]byte, error) {
	var all []byte
	for _, q := range []struct {
		wanted  bool
		what    string
		typ     uint16
		request []byte
	}{
		{true, "links", unix.RTM_GETLINK, linksRequest(Here)},
		{true, "addresses", unix.RTM_GETADDR, addressesRequest(Here)},
		{w.Routes, "routes", unix.RTM_GETROUTE, make([]byte, unix.SizeofRtMsg)},
		{w.Neighbours, "neighbours", unix.RTM_GETNEIGH, make([]byte, sizeofNdMsg)},
		{w.Rules, "rules", unix.RTM_GETRULE, make([]byte, SizeofRuleMsg)},
	} {
		if !q.wanted {
			continue
		}
		before := len(all)
		err := c.dump(q.typ, q.request, func() { all = all[:before] }, func(m Message) (err error) {
			all, err = appendMessage(all, m)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", q.what, err)
		}
	}
	return append(all, message(unix.NLMSG_DONE, 0, 0, nil)...), nil
}

// maxDump is how many bytes of messages a dump has at most: a container can have as many routes and sockets as it
// likes, and must not have this process take memory for all of them.
const maxDump = 16 << 20

// errLong means that there is more than maxDump.
var errLong = fmt.Errorf("there is more than fits into %d MB", maxDump>>20)

// appendMessage appends a message to others, padded, if there is room.
func appendMessage(all []byte, m Message) ([]byte, error) {
	if len(all)+len(m.whole) > maxDump {
		return all, errLong
	}
	all = append(all, m.whole...)
	return append(all, make([]byte, align(len(all))-len(all))...), nil
}

// Decode decodes what Dump returned, with or without what DumpSockets returned behind it. A route with several gateways
// is listed once for each of them. Neighbours that need no resolution (multicast, loopback) are left out, as
// ip-neighbour(8) does. Routes and neighbours are in the kernel's order.
func Decode(dump []byte) (*netstate.Snapshot, error) {
	var s netstate.Snapshot
	addrs := map[int][]netip.Prefix{}
	for {
		m, rest, err := NextMessage(dump)
		if err != nil {
			return nil, err
		}
		dump = rest
		if m.Type == unix.NLMSG_DONE {
			break
		}
		if err := add(&s, addrs, m); err != nil {
			return nil, err
		}
	}
	setAddresses(s.Links, addrs)
	if len(dump) == 0 {
		return &s, nil
	}
	s.HasSockets = true
	var err error
	s.Sockets, err = decodeSockets(dump)
	return &s, err
}

// add decodes one message of a dump into s. Addresses go to addrs, by the index of their link.
func add(s *netstate.Snapshot, addrs map[int][]netip.Prefix, m Message) error {
	switch m.Type {
	case unix.RTM_NEWLINK:
		l, _, err := decodeLink(m.Payload)
		s.Links = append(s.Links, l)
		return err
	case unix.RTM_NEWADDR:
		index, prefix, _, err := decodeAddress(m.Payload)
		if prefix.IsValid() {
			addrs[index] = append(addrs[index], prefix)
		}
		return err
	case unix.RTM_NEWROUTE:
		routes, err := decodeRoute(m.Payload)
		s.Routes = append(s.Routes, routes...)
		return err
	case unix.RTM_NEWNEIGH:
		n, err := decodeNeighbour(m.Payload)
		if n.Address.IsValid() && n.State != "noarp" {
			s.Neighbours = append(s.Neighbours, n)
		}
		return err
	case unix.RTM_NEWRULE:
		r, ok, err := decodeRule(m.Payload)
		if ok {
			s.Rules = append(s.Rules, r)
		}
		return err
	}
	return fmt.Errorf("netlink: a message of type %d in a dump", m.Type)
}
