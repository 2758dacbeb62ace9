// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The driver sets up ports by PortSettings with its own means. These are the tests'.

// wrongPort tells which of PortSettings a link does not have, such as "learning 1, not 0". Empty: it has them all.
func wrongPort(link netlink.Link) (string, error) {
	have, err := lookAtPort(link)
	if err != nil {
		return "", err
	}
	var wrong []string
	for _, s := range PortSettings {
		if is, ok := have[s.Attribute]; ok && is != s.Value {
			wrong = append(wrong, fmt.Sprintf("%s %d, not %d", s.Name, is, s.Value))
		}
	}
	return strings.Join(wrong, ", "), nil
}

// setPort gives a link, which has to be a port of a bridge, all of PortSettings at once.
func setPort(link netlink.Link) error {
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(link.Attrs().Index)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	for _, s := range PortSettings {
		value := []byte{byte(s.Value)}
		if s.Attribute == nl.IFLA_BRPORT_GROUP_FWD_MASK { // the only one that has two bytes
			value = binary.NativeEndian.AppendUint16(nil, s.Value)
		}
		info.AddRtAttr(int(s.Attribute), value)
	}
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	req.AddData(msg)
	req.AddData(info)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set up bridge port %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// lookAtPort returns what a link is as a port of a bridge, by IFLA_BRPORT_*. It is an error if it is none.
func lookAtPort(link netlink.Link) (map[uint16]uint16, error) {
	fail := func(err error) error { return fmt.Errorf("look at bridge port %s: %w", link.Attrs().Name, err) }
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0)
	req.AddData(msg)
	replies, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return nil, fail(err)
	}
	port := map[uint16]uint16{}
	for _, reply := range replies {
		for typ, info := range attributes(reply[min(unix.SizeofIfInfomsg, len(reply)):]) {
			if typ == unix.IFLA_LINKINFO {
				readPort(info, port)
			}
		}
	}
	if len(port) == 0 {
		return nil, fail(fmt.Errorf("it is a port of no bridge"))
	}
	return port, nil
}

// readPort reads the attributes of a bridge port out of IFLA_LINKINFO.
func readPort(info []byte, port map[uint16]uint16) {
	kind := ""
	for typ, value := range attributes(info) {
		switch {
		case typ == unix.IFLA_INFO_SLAVE_KIND:
			kind = unix.ByteSliceToString(value)
		case typ == unix.IFLA_INFO_SLAVE_DATA && kind == "bridge":
			for attribute, v := range attributes(value) {
				switch len(v) {
				case 1:
					port[attribute] = uint16(v[0])
				case 2:
					port[attribute] = binary.NativeEndian.Uint16(v)
				}
			}
		}
	}
}
