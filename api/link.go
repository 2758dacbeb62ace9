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
	Counters  *Counters      `json:"counters,omitempty"`
}

// Counters are what a link has counted since it was made.
type Counters struct {
	RxPackets uint64 `json:"rxPackets"`
	TxPackets uint64 `json:"txPackets"`
	RxBytes   uint64 `json:"rxBytes"`
	TxBytes   uint64 `json:"txBytes"`
	RxErrors  uint64 `json:"rxErrors"`
	TxErrors  uint64 `json:"txErrors"`
	RxDropped uint64 `json:"rxDropped"`
	TxDropped uint64 `json:"txDropped"`
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

// Rule is a rule of policy routing.
type Rule struct {
	Priority int    `json:"priority"`
	IPv6     bool   `json:"ipv6,omitempty"`
	Match    string `json:"match"`  // as in ip-rule(8): "from 10.0.0.0/8 fwmark 0x1"; ? for what is not told
	Action   string `json:"action"` // likewise: "lookup main", "unreachable"
}

// Socket is one that waits for packets of others: a server, as a rule.
type Socket struct {
	Protocol string         `json:"protocol"` // tcp or udp
	Address  netip.AddrPort `json:"address"`  // 0.0.0.0 or ::, which may include IPv4, stand for all of the container's
	UID      uint32         `json:"uid"`      // of its user, as the host numbers users
	Queued   uint32         `json:"queued"`   // tcp: connections that wait for the program; udp: bytes
}
