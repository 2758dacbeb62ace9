// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// groupForwardMask makes a port forward frames to the group addresses that are reserved for bridges, 01:80:c2:00:00:00
// to :0f, a bit for each. Without it the host receives such a frame as one of the port, where the isolation of the
// bridge does not apply (br_handle_frame in br_input.c). Bit 1, for pause frames, can't be set; the kernel drops
// those.
const groupForwardMask = 0xfffd

// portProperties are what a host end is as a port of its bridge. All but the first are what the kernel makes of a new
// port: a port that is otherwise does not reach the others.
var portProperties = []property{
	portAttribute("group_fwd_mask", nl.IFLA_BRPORT_GROUP_FWD_MASK, groupForwardMask),
	portAttribute("isolated", nl.IFLA_BRPORT_ISOLATED, 0),
	portAttribute("learning", nl.IFLA_BRPORT_LEARNING, 1),
	portAttribute("flood", nl.IFLA_BRPORT_UNICAST_FLOOD, 1),
	portAttribute("mcast_flood", nl.IFLA_BRPORT_MCAST_FLOOD, 1),
	portAttribute("bcast_flood", nl.IFLA_BRPORT_BCAST_FLOOD, 1),
	{"port state", wrongPortState, func(l links, have *hostLink, _ wanted) error {
		return l.setPort(have, "state", nl.IFLA_BRPORT_STATE, portForwarding)
	}},
}

// newPort is what the kernel makes of a link that becomes a port.
func newPort() map[uint16]uint16 {
	return map[uint16]uint16{
		nl.IFLA_BRPORT_GROUP_FWD_MASK: 0, nl.IFLA_BRPORT_ISOLATED: 0, nl.IFLA_BRPORT_LEARNING: 1,
		nl.IFLA_BRPORT_UNICAST_FLOOD: 1, nl.IFLA_BRPORT_MCAST_FLOOD: 1, nl.IFLA_BRPORT_BCAST_FLOOD: 1,
		nl.IFLA_BRPORT_NEIGH_SUPPRESS: 0,
	}
}

// portAttribute is the property that an attribute of a port has a value. What the kernel does not tell of is in order:
// older ones don't know it.
func portAttribute(name string, attribute, value uint16) property {
	return property{
		name: name,
		wrong: func(have *hostLink, _ wanted) string {
			if is, ok := have.port[attribute]; ok && is != value {
				return fmt.Sprintf("%s %d, not %d", name, is, value)
			}
			return ""
		},
		set: func(l links, have *hostLink, _ wanted) error {
			return l.setPort(have, name, attribute, value)
		},
	}
}

// portForwarding is BR_STATE_FORWARDING of linux/if_bridge.h.
const portForwarding = 3

// wrongPortState tells of a port that does not forward though its container end is up. The spanning tree protocol may
// have reasons for that.
func wrongPortState(have *hostLink, want wanted) string {
	state, ok := have.port[nl.IFLA_BRPORT_STATE]
	switch {
	case !ok || state == portForwarding || have.Attrs().OperState != netlink.OperUp:
		return ""
	case want.bridge == nil || want.bridge.stp || have.Attrs().MasterIndex != want.bridge.Attrs().Index:
		return ""
	}
	return "port does not forward"
}

// setPort sets an attribute of a bridge port.
func (l links) setPort(have *hostLink, name string, attribute, value uint16) error {
	data := []byte{byte(value)}
	if attribute == nl.IFLA_BRPORT_GROUP_FWD_MASK { // the only one that has two bytes
		data = binary.NativeEndian.AppendUint16(nil, value)
	}
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(have.Attrs().Index)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	info.AddRtAttr(int(attribute), data)
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.AddData(msg)
	req.AddData(info)
	l.step("set port " + name)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set %s of the bridge port to %d: %w", name, value, err)
	}
	have.port[attribute] = value
	return nil
}
