// SPDX-License-Identifier: Apache-2.0

package api

import "net/netip"

// Link is a network link as the kernel has it.
type Link struct {
	Index     int            `json:"index"`
	Name      string         `json:"name"`
	Kind      string         `json:"kind,omitempty"` // veth, bridge, ...
	MAC       string         `json:"mac,omitempty"`
	MTU       int            `json:"mtu"` // bytes
	Up        bool           `json:"up"`
	Carrier   bool           `json:"carrier"`        // of a veth: the other end is up as well
	Peer      int            `json:"peer,omitempty"` // of a veth: index of its other end, in the namespace of that
	Addresses []netip.Prefix `json:"addresses"`      // IPv4 first
}

// Route is a route of a main table.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"` // zero: the destination is directly attached
	Link        string       `json:"link"`             // name of the link that it leads out of
	Metric      int          `json:"metric,omitempty"`
	MTU         int          `json:"mtu,omitempty"` // bytes; 0: the link's
}

// Neighbour is an ARP or neighbour discovery entry.
type Neighbour struct {
	Address netip.Addr `json:"address"`
	MAC     string     `json:"mac,omitempty"` // empty: not resolved
	Link    string     `json:"link"`          // name
	State   string     `json:"state"`         // reachable, stale, failed, ... as in ip-neighbour(8)
}
