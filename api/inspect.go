// SPDX-License-Identifier: Apache-2.0

package api

import "net/netip"

// Inspection is everything about one endpoint of this host: what weave tracks, and what is really there.
type Inspection struct {
	Endpoint Endpoint       `json:"endpoint"` // live, by nsproc, and with advice for its drift
	Network  Network        `json:"network"`
	HostEnd  *HostEnd       `json:"hostEnd,omitempty"` // nil: it is missing
	Inside   *Link          `json:"inside,omitempty"`  // the container end; nil: it is missing, or not known
	Rules    []FirewallRule `json:"rules"`             // of the host, about the network's bridge
	Sandbox  *Sandbox       `json:"sandbox,omitempty"` // nil: there is none, or Endpoint.Live.Error
	DNS      *DNS           `json:"dns,omitempty"`     // nil: not known
	Problems []string       `json:"problems"`          // what could not be looked at, and why
}

// HostEnd is the end of a veth pair that is a port of the network's bridge.
type HostEnd struct {
	Link
	State    string    `json:"state"`    // as a port: forwarding, ..., as in bridge(8)
	Isolated bool      `json:"isolated"` // it reaches no other isolated port
	Qdisc    string    `json:"qdisc"`
	Stations []Station `json:"stations"` // MACs that the bridge sends here
}

// Station is a MAC that a bridge sends to a port: an entry of its forwarding database.
type Station struct {
	MAC       string `json:"mac"`
	Permanent bool   `json:"permanent"` // not learned from frames
}

// FirewallRule is a rule of the host's packet filter.
type FirewallRule struct {
	Table   string  `json:"table"`             // back end, family, table and chain
	Rule    string  `json:"rule"`              // as iptables -S lists it; ? stands for a part that is not told
	Packets *uint64 `json:"packets,omitempty"` // that it has matched; nil: not known
	Bytes   *uint64 `json:"bytes,omitempty"`   // likewise
}

// DNS is where a container's questions for names go, as Docker has it.
type DNS struct {
	Resolver netip.Addr `json:"resolver,omitzero"` // Docker's, in the container; it asks the Servers
	Servers  []string   `json:"servers"`           // docker run --dns; none: the host's
	Search   []string   `json:"search"`            // docker run --dns-search
	Options  []string   `json:"options"`           // docker run --dns-option
}
