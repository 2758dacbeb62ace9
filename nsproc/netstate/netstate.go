// SPDX-License-Identifier: Apache-2.0

// Package netstate describes what is in a network namespace: links with their addresses, routes and neighbours. It
// holds types only, and both nsproc, which runs in a sandbox, and the plugin, which runs in the host's namespace, use
// it.
package netstate

import (
	"net/netip"

	"github.com/weaveplugin/weave/internal/mac"
)

// Snapshot is what was found in one network namespace. All but the links is listed only by nsproc, and only where a
// request asked for it.
type Snapshot struct {
	Links      []Link  // in the order of their indexes
	Routes     []Route // those of the main table
	Neighbours []Neighbour
	Rules      []Rule   // of policy routing, in the order in which they are tried
	Sockets    []Socket // those that take what others send first: TCP that listens, UDP that is not connected
	HasSockets bool     // the kernel has told Sockets
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
	Counters  *Counters      // nil: not known
}

// Counters are what a link has counted since it was made.
type Counters struct {
	RxPackets, TxPackets, RxBytes, TxBytes, RxErrors, TxErrors, RxDropped, TxDropped uint64
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

// Rule is a rule of policy routing: what it matches is looked up in a table.
type Rule struct {
	Priority int
	Inverted bool         // it matches what is otherwise
	From, To netip.Prefix // the zero Prefix: any
	Mark     uint32       // of the packet, but for the bits that Mask does not have
	Mask     uint32       // 0: any mark
	In, Out  string       // names of links; empty: any
	Action   string       // "lookup", "unreachable", "blackhole", ... as in ip-rule(8)
	Table    int          // of lookup; 255 is local, 254 main, 253 default
	IPv6     bool
	Partial  bool // there are conditions besides these
}

// Socket is one that waits for packets of others.
type Socket struct {
	Protocol string         // "tcp" or "udp"
	Local    netip.AddrPort // 0.0.0.0 or ::, which may include IPv4: all addresses
	UID      uint32         // user whose it is, as the kernel numbers users
	Queued   uint32         // TCP: connections that wait for the program; UDP: bytes
}
