// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// sizeofNdMsg is the size of struct ndmsg, the header of a neighbour message.
const sizeofNdMsg = 12

// decodeNeighbour decodes an RTM_NEWNEIGH. Its address is the zero Addr if the family is neither IPv4 nor IPv6.
func decodeNeighbour(b []byte) (n netstate.Neighbour, err error) {
	if len(b) < sizeofNdMsg {
		return n, errShort
	}
	family := b[0]
	n.Link = int(int32(native.Uint32(b[4:])))
	n.State = neighbourState(native.Uint16(b[8:]))
	err = EachAttr(b[sizeofNdMsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.NDA_DST:
			n.Address, err = addr(family, v)
		case unix.NDA_LLADDR:
			n.MAC = mac.FromBytes(v)
		}
		return err
	})
	return n, err
}

// neighbourState returns the name that ip-neighbour(8) has for a state.
func neighbourState(s uint16) string {
	switch s {
	case unix.NUD_NONE:
		return "none"
	case unix.NUD_INCOMPLETE:
		return "incomplete"
	case unix.NUD_REACHABLE:
		return "reachable"
	case unix.NUD_STALE:
		return "stale"
	case unix.NUD_DELAY:
		return "delay"
	case unix.NUD_PROBE:
		return "probe"
	case unix.NUD_FAILED:
		return "failed"
	case unix.NUD_NOARP:
		return "noarp"
	case unix.NUD_PERMANENT:
		return "permanent"
	}
	return fmt.Sprintf("%#x", s)
}
