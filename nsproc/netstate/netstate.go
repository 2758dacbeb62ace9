// SPDX-License-Identifier: Apache-2.0

// Package netstate describes what is in a network namespace: links with their addresses, routes and neighbours. It
// holds types only, and both nsproc, which runs in a sandbox, and the plugin, which runs in the host's namespace, use
// it.
package netstate

import (
	"net/netip"

	"github.com/weaveplugin/weave/internal/mac"
)

// Snapshot is what was found in one network namespace. Routes and neighbours are listed only by nsproc, and only
// where a request asked for them.
type Snapshot struct {
	Links      []Link  // in the order of their indexes
	Routes     []Route // those of the main table
	Neighbours []Neighbour
}

// Link is a network link with its addresses.
type Link struct {
	Index     int
	Name      string
	Kind      string         // "veth", "bridge", ...; empty for a link without one, such as lo
	MAC       mac.Address    // zero: none, or not an Ethernet address
	MTU       int            // bytes
	Up        bool           // IFF_UP: set up by an administrator
	Carrier   bool           // IFF_LOWER_UP: a veth's other end is up as well
	Peer      int            // IFLA_LINK: for a veth the index of its other end, in the namespace of that end
	Master    int            // index of the bridge that it is a port of; 0: none
	Qdisc     string         // kind of the root qdisc, "noqueue" for a link that has none
	PortState string         // as a port of a bridge: "forwarding", "blocking", ... as in bridge(8); empty: not known
	Isolated  bool           // as a port of a bridge: it reaches no other isolated one
	Addresses []netip.Prefix // sorted, IPv4 first; link-local ones included
}

// Route is a route of the main table.
type Route struct {
	Destination netip.Prefix // 0.0.0.0/0 or ::/0 for a default route
	Gateway     netip.Addr   // the zero Addr: none, the destination is directly attached
	Link        int          // index of the link that it leads out of
	Metric      int
	MTU         int // bytes; 0: the link's
}

// Neighbour is an ARP or neighbour discovery entry.
type Neighbour struct {
	Address netip.Addr
	MAC     mac.Address // zero: not resolved, or not an Ethernet address
	Link    int         // index
	State   string      // "reachable", "stale", "failed", "permanent", ... as in ip-neighbour(8)
}
