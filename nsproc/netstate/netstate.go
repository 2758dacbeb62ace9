// Package netstate describes what is in a network namespace: its links with their addresses, its routes and its
// neighbours, as the kernel tells of them to nsproc inside, or to the plugin outside.
package netstate

import (
	"net/netip"

	"github.com/weaveplugin/weave/internal/mac"
)

// Snapshot is what was found in one network namespace.
type Snapshot struct {
	Links      []Link      // in the order of their indexes
	Routes     []Route     // main table; from inside only, where asked for
	Neighbours []Neighbour // from inside only, where asked for
}

// Link is one network link and its addresses.
type Link struct {
	Index     int
	Name      string
	Kind      string      // "veth", "bridge", ...; empty for a link without one, such as lo
	MAC       mac.Address // zero: none, or not an Ethernet address
	MTU       int
	Up        bool // IFF_UP
	Carrier   bool // IFF_LOWER_UP
	Peer      int  // IFLA_LINK: for a veth the index of its other end, in that end's namespace
	Master    int
	Addresses []netip.Prefix // in address order, IPv4 first; link-local included
}

// Route is one route of the main table.
type Route struct {
	Destination netip.Prefix // 0.0.0.0/0 or ::/0 for a default route
	Gateway     netip.Addr
	Link        int // index of the link that it leads out of
	Metric      int
}

// Neighbour is one ARP or neighbour discovery entry.
type Neighbour struct {
	Address netip.Addr
	MAC     mac.Address // zero: not resolved, or not an Ethernet address
	Link    int
	State   string // "reachable", "stale", "failed", "permanent", ... as ip-neighbour(8) has them
}
