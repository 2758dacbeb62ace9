// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
)

// Question returns an Ethernet frame that asks all stations who has an address. By IPv4 it is a probe (RFC 5227,
// section 2.1.1), which tells nobody an address of the sender's. By IPv6 it is a neighbour solicitation from the
// sender's own address, from: one from no address would make stations that are about to take the address give it up.
func Question(source mac.Address, from, a netip.Addr) []byte {
	if a.Is4() {
		b := ethernet(mac.Address{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, source, unix.ETH_P_ARP)
		b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their sizes, request
		b = append(b, source[:]...)
		b = append(b, make([]byte, 10)...) // from no address, to no MAC
		return append(b, a.AsSlice()...)
	}
	target := a.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16() // the target's solicited-node group (RFC 4291, section 2.7.1)
	copy(group[13:], target[13:])
	icmp := append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, target[:]...)
	icmp = append(icmp, 1, 1) // option: source link-layer address, eight bytes
	return discovery(source, from.As16(), group, append(icmp, source[:]...))
}

// Where the parts of an answer are in its frame.
const (
	offsetType      = 12 // of the frame
	offsetOperation = 20 // ARP
	offsetSender    = 22 // ARP: its MAC and its address
	offsetNext      = 20 // IPv6: the protocol of what follows
	offsetICMP      = 54 // IPv6, without extension headers
	offsetTarget    = offsetICMP + 8
	offsetOption    = offsetTarget + 16
)

// The sizes of a MAC and of an IPv4 address, in bytes.
const (
	macSize     = 6
	addressSize = 4
)

const (
	arpReply              = 2
	neighborAdvertisement = 136
	targetOption          = 2 // target link-layer address
)

// Answer reads an answer to a Question: who has which address. It is not ok if the frame is none.
func Answer(frame []byte) (holder mac.Address, a netip.Addr, ok bool) {
	if len(frame) < offsetSender+macSize+addressSize {
		return mac.Address{}, netip.Addr{}, false
	}
	switch binary.BigEndian.Uint16(frame[offsetType:]) {
	case unix.ETH_P_ARP:
		holder = mac.FromBytes(frame[offsetSender : offsetSender+macSize])
		a, _ = netip.AddrFromSlice(frame[offsetSender+macSize : offsetSender+macSize+addressSize])
		return holder, a, binary.BigEndian.Uint16(frame[offsetOperation:]) == arpReply
	case unix.ETH_P_IPV6:
		if len(frame) < offsetOption || frame[offsetNext] != unix.IPPROTO_ICMPV6 ||
			frame[offsetICMP] != neighborAdvertisement {
			return mac.Address{}, netip.Addr{}, false
		}
		a, _ = netip.AddrFromSlice(frame[offsetTarget:offsetOption])
		holder = mac.FromBytes(frame[macSize : 2*macSize]) // the frame's sender, if it does not say otherwise
		if o := frame[offsetOption:]; len(o) >= 2+macSize && o[0] == targetOption && o[1] == 1 {
			holder = mac.FromBytes(o[2 : 2+macSize])
		}
		return holder, a, true
	}
	return mac.Address{}, netip.Addr{}, false
}
