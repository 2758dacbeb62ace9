// Package netstate describes what is in a network namespace: its links with their addresses, its routes and its
// neighbours, as nsproc reports them from inside and as the kernel tells of them from outside.
package netstate

import "net/netip"

// Snapshot is what was found in one network namespace.
type Snapshot struct {
	Links      []Link      `json:"links"`                // in the order of their indexes
	Routes     []Route     `json:"routes,omitempty"`     // main table; from inside only
	Neighbours []Neighbour `json:"neighbours,omitempty"` // from inside only
}

// Link is one network link and its addresses.
type Link struct {
	Index     int            `json:"index"`
	Name      string         `json:"name"`
	Kind      string         `json:"kind,omitempty"` // "veth", "bridge", ...; empty for a link without one, such as lo
	MAC       string         `json:"mac,omitempty"`  // colon form, lower case
	MTU       int            `json:"mtu"`
	Up        bool           `json:"up"`             // IFF_UP
	Carrier   bool           `json:"carrier"`        // IFF_LOWER_UP
	Peer      int            `json:"peer,omitempty"` // IFLA_LINK: for a veth the index of its other end, in that end's namespace
	Master    int            `json:"master,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"` // in address order, IPv4 first; link-local included
}

// Route is one route of the main table.
type Route struct {
	Destination netip.Prefix `json:"destination"` // 0.0.0.0/0 or ::/0 for a default route
	Gateway     netip.Addr   `json:"gateway,omitzero"`
	Link        int          `json:"link,omitempty"` // index of the link that it leads out of
	Metric      int          `json:"metric,omitempty"`
}

// Neighbour is one ARP or neighbour discovery entry.
type Neighbour struct {
	Address netip.Addr `json:"address"`
	MAC     string     `json:"mac,omitempty"`
	Link    int        `json:"link"`
	State   string     `json:"state"` // "reachable", "stale", "failed", "permanent", ... as ip-neighbour(8) has them
}
