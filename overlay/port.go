// SPDX-License-Identifier: Apache-2.0

package overlay

import "github.com/vishvananda/netlink/nl"

// PortSetting is an attribute of a bridge port, as ip-link(8) names it.
type PortSetting struct {
	Name      string
	Attribute uint16 // IFLA_BRPORT_*
	Value     uint16
}

// PortSettings are what a VXLAN device has to be as a port of its bridge.
//
// The bridge learns nothing there, since the entries say where a MAC is; it answers for the remote containers itself
// (neigh_suppress). A frame to a MAC that no entry knows is flooded as on any port: a container may have MACs that
// weave knows nothing of, of virtual machines for instance. What announces an address to all, a gratuitous ARP, the
// kernel sends to no port with neigh_suppress, so that an address of keepalived's moves slowly to another host. Frames
// to the group addresses that are reserved for bridges are forwarded, as at host ends: otherwise the host itself would
// receive them.
var PortSettings = []PortSetting{
	{"learning", nl.IFLA_BRPORT_LEARNING, 0},
	{"neigh_suppress", nl.IFLA_BRPORT_NEIGH_SUPPRESS, 1},
	{"isolated", nl.IFLA_BRPORT_ISOLATED, 0},
	{"flood", nl.IFLA_BRPORT_UNICAST_FLOOD, 1},
	{"mcast_flood", nl.IFLA_BRPORT_MCAST_FLOOD, 1},
	{"bcast_flood", nl.IFLA_BRPORT_BCAST_FLOOD, 1},
	{"group_fwd_mask", nl.IFLA_BRPORT_GROUP_FWD_MASK, 0xfffd}, // all but pause frames, for which it can't be set
}
