// SPDX-License-Identifier: Apache-2.0

// Package announce makes and sends the frames by which stations learn the MAC of an address, and reads the answers to
// those that ask for it. It sends in the network namespace of whoever calls it: nsproc in a container's, overlay in the
// host's.
package announce

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
)

// Frame returns an Ethernet frame that tells all stations the MAC of an address. It has to be sent over a packet
// socket: no other socket can send from an IPv6 address before the kernel has finished duplicate address detection.
func Frame(source mac.Address, a netip.Addr) []byte {
	if a.Is4() {
		return arpAnnouncement(source, a.As4())
	}
	return neighbourAdvertisement(source, a.As16())
}

// arpAnnouncement returns an ARP request for the sender's own address (RFC 5227, section 2.3).
func arpAnnouncement(source mac.Address, a [4]byte) []byte {
	b := ethernet(mac.Address{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, source, unix.ETH_P_ARP)
	b = append(b, 0, 1, 8, 0, 6, 4, 0, 1) // Ethernet, IPv4, their sizes, request
	b = append(b, source[:]...)
	b = append(b, a[:]...)
	b = append(b, 0, 0, 0, 0, 0, 0)
	return append(b, a[:]...)
}

// neighbourAdvertisement returns an unsolicited neighbour advertisement to all nodes (RFC 4861, section 7.2.6). Its
// flag O has them replace the MAC that they know.
func neighbourAdvertisement(source mac.Address, a [16]byte) []byte {
	allNodes := netip.MustParseAddr("ff02::1").As16()
	icmp := []byte{136, 0, 0, 0, 0x20, 0, 0, 0} // type, code, checksum (2 bytes), flags (O) and reserved
	icmp = append(icmp, a[:]...)
	icmp = append(icmp, 2, 1) // option: target link-layer address, eight bytes
	return discovery(source, a, allNodes, append(icmp, source[:]...))
}

// discovery returns a frame with a message of neighbour discovery to a multicast group. The message has an even length,
// and zero in place of its checksum.
func discovery(source mac.Address, from, group [16]byte, icmp []byte) []byte {
	binary.BigEndian.PutUint16(icmp[2:], checksum(from, group, icmp))
	b := ethernet(mac.Address{0x33, 0x33, group[12], group[13], group[14], group[15]}, source, unix.ETH_P_IPV6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(icmp)))
	b = append(b, unix.IPPROTO_ICMPV6, 255) // hop limit; receivers ignore others
	b = append(b, from[:]...)
	b = append(b, group[:]...)
	return append(b, icmp...)
}

// ethernet returns the header of an Ethernet frame.
func ethernet(dst, src mac.Address, typ uint16) []byte {
	b := append(dst[:], src[:]...)
	return binary.BigEndian.AppendUint16(b, typ)
}

// checksum returns the checksum of an ICMPv6 message (RFC 4443, section 2.3). The message has an even length, and
// zero in place of its checksum.
func checksum(src, dst [16]byte, icmp []byte) uint16 {
	b := append(src[:], dst[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(icmp)))
	b = append(b, 0, 0, 0, unix.IPPROTO_ICMPV6)
	b = append(b, icmp...)
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// Sender sends frames. To close one takes some 15 ms, as long as the kernel waits until nobody looks at the socket any
// more: who sends often keeps it open.
type Sender struct{ fd int }

// NewSender returns a Sender for the network namespace of its caller.
func NewSender() (*Sender, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // protocol 0: it receives nothing
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	return &Sender{fd}, nil
}

// Send sends Ethernet frames out of the link with that index.
func (s *Sender) Send(link int, frames [][]byte) error { return SendBy(s.fd, link, frames) }

// SendBy sends Ethernet frames by a packet socket out of the link with that index in the socket's namespace.
func SendBy(fd, link int, frames [][]byte) error {
	for _, f := range frames {
		if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: link, Halen: 6}); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// Close closes the Sender.
func (s *Sender) Close() { unix.Close(s.fd) }

// Send is what a Sender does, once.
func Send(link int, frames [][]byte) error {
	if len(frames) == 0 {
		return nil
	}
	s, err := NewSender()
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Send(link, frames)
}
