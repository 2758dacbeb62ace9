// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
)

// message is what a frame says.
type message struct {
	from, to mac.Address
	answer   bool // to a request with the same shape, token and try
	shape    uint8
	try      uint8
	spoiled  bool // of an answer: the request's checksum was wrong when it arrived
	token    uint64
}

// form is how a frame is made.
type form struct {
	tcp   bool // otherwise UDP
	plain bool // it leaves with its checksum; otherwise the device that it goes out of has to make it
	large bool // it fills the MTU
}

// String names the form for people.
func (f form) String() string {
	name := "UDP"
	if f.tcp {
		name = "TCP"
	}
	if f.large {
		name = "large " + name
	}
	if f.plain {
		name += " without offload"
	}
	return name
}

// shape is how a request and its answer are made.
type shape struct{ request, answer form }

// What is sent in a round. The answers differ, since they tell in which direction something does not pass. No small
// request has a large answer: nobody must be able to have more sent to a host than they send themselves.
var shapes = [...]shape{
	{form{plain: true}, form{plain: true}},
	{form{}, form{plain: true}},
	{form{tcp: true}, form{tcp: true, plain: true}},
	{form{}, form{}},
	{form{tcp: true}, form{tcp: true}},
	{form{large: true}, form{plain: true}},
	{form{tcp: true, large: true}, form{tcp: true, plain: true}},
	{form{large: true}, form{large: true}},
	{form{tcp: true, large: true}, form{tcp: true, large: true}},
}

// Sizes in bytes, in the order in which the parts stand in what the kernel gives and takes.
const (
	vnetHeader   = 10 // struct virtio_net_hdr of linux/virtio_net.h
	etherHeader  = 14
	ipHeader     = 20
	udpHeader    = 8
	tcpHeader    = 20
	payloadSize  = 16
	ipAt         = vnetHeader + etherHeader
	transportAt  = ipAt + ipHeader
	smallestSize = ipHeader + tcpHeader + payloadSize // of an IP packet, UDP's too; every network's MTU is more
)

// Where the checksum stands behind the beginning of its header.
const (
	udpChecksumAt = 6
	tcpChecksumAt = 16
)

// magic begins what is sent. Its last byte is the version.
var magic = [4]byte{'w', 'v', 'p', 1}

// The addresses and the port of the packets. They are for documentation (RFC 5737): no host has them.
var (
	source      = [4]byte{203, 0, 113, 1}
	destination = [4]byte{203, 0, 113, 2}
)

const port = 9 // discard

// hostMAC is the MAC that a host sends probes from and takes them at. It is not that of its device: a frame to another
// station's MAC the kernel shows to packet sockets and drops.
func hostMAC(id string) mac.Address {
	sum := sha256.Sum256([]byte("weave probe " + id))
	a := mac.Address(sum[:6])
	a[0] = a[0]&^1 | 2 // of one station, locally administered
	return a
}

func (m message) form() form {
	if m.answer {
		return shapes[m.shape].answer
	}
	return shapes[m.shape].request
}

// frame returns the message as a frame for a packet socket with PACKET_VNET_HDR. If it is large its IP packet has size
// bytes.
func (m message) frame(size int) []byte {
	f := m.form()
	if !f.large {
		size = smallestSize
	}
	b := make([]byte, ipAt+size)
	protocol, headerSize, checksumAt := byte(unix.IPPROTO_UDP), udpHeader, udpChecksumAt
	if f.tcp {
		protocol, headerSize, checksumAt = unix.IPPROTO_TCP, tcpHeader, tcpChecksumAt
	}

	ether := b[vnetHeader:]
	copy(ether, m.to[:])
	copy(ether[6:], m.from[:])
	binary.BigEndian.PutUint16(ether[12:], unix.ETH_P_IP)

	ip := b[ipAt:]
	ip[0] = 4<<4 | ipHeader/4
	binary.BigEndian.PutUint16(ip[2:], uint16(size))
	ip[6] = 0x40 // don't fragment
	ip[8] = 64   // time to live
	ip[9] = protocol
	copy(ip[12:], source[:])
	copy(ip[16:], destination[:])
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:ipHeader]))

	transport := b[transportAt:]
	binary.BigEndian.PutUint16(transport, port)
	binary.BigEndian.PutUint16(transport[2:], port)
	if f.tcp {
		binary.BigEndian.PutUint32(transport[4:], uint32(m.token)) // sequence number: nothing is merged with another
		transport[12] = tcpHeader / 4 << 4
		transport[13] = 0x18 // PSH, ACK
	} else {
		binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
	}
	m.put(transport[headerSize:])
	begun := pseudoHeader(ip, len(transport))
	if f.plain {
		begun = ^sum(begun, transport)
		if begun == 0 { // in UDP it would say that there is none (RFC 768), and both mean the same
			begun = 0xffff
		}
	} else { // the device does the rest
		b[0] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM
		binary.NativeEndian.PutUint16(b[6:], transportAt-vnetHeader) // where what the checksum is of begins
		binary.NativeEndian.PutUint16(b[8:], uint16(checksumAt))
	}
	binary.BigEndian.PutUint16(transport[checksumAt:], begun)
	return b
}

// put writes the payload.
func (m message) put(b []byte) {
	copy(b, magic[:])
	b[4], b[5], b[6], b[7] = flag(m.answer), m.shape, m.try, flag(m.spoiled)
	binary.BigEndian.PutUint64(b[8:], m.token)
}

func flag(is bool) byte {
	if is {
		return 1
	}
	return 0
}

// parse reads a frame that a packet socket with PACKET_VNET_HDR has given. size is that of its IP packet, in bytes;
// wrong reports that a host would drop the packet for its checksum. ok is false if it is no frame of a probe.
func parse(b []byte) (m message, size int, wrong, ok bool) {
	if len(b) < ipAt+smallestSize {
		return message{}, 0, false, false
	}
	ether, ip := b[vnetHeader:], b[ipAt:]
	m.to, m.from = mac.FromBytes(ether[:6]), mac.FromBytes(ether[6:12])
	size = int(binary.BigEndian.Uint16(ip[2:]))
	isFragment := binary.BigEndian.Uint16(ip[6:])&0x3fff != 0
	if binary.BigEndian.Uint16(ether[12:]) != unix.ETH_P_IP || ip[0] != 4<<4|ipHeader/4 || isFragment ||
		size < smallestSize || size > len(ip) {
		return message{}, 0, false, false
	}
	transport := ip[ipHeader:size]
	payload := transport
	isTCP := ip[9] == unix.IPPROTO_TCP
	switch {
	case isTCP && transport[12]>>4 == tcpHeader/4:
		payload = transport[tcpHeader:]
	case ip[9] == unix.IPPROTO_UDP && int(binary.BigEndian.Uint16(transport[4:])) == len(transport):
		payload = transport[udpHeader:]
	default:
		return message{}, 0, false, false
	}
	if !bytes.HasPrefix(payload, magic[:]) || int(payload[5]) >= len(shapes) {
		return message{}, 0, false, false
	}
	m.answer, m.shape, m.try, m.spoiled = payload[4] == 1, payload[5], payload[6], payload[7] == 1
	m.token = binary.BigEndian.Uint64(payload[8:])
	return m, size, isSpoiled(b[0], ip, transport), m.form().tcp == isTCP
}

// isSpoiled reports whether the checksum of a packet's transport header is wrong; flags are those of the virtio header.
// What has come from the same machine may have no checksum yet, and one that the network card has found right is right
// for containers, too: they believe it as well.
func isSpoiled(flags byte, ip, transport []byte) bool {
	if flags&(unix.VIRTIO_NET_HDR_F_NEEDS_CSUM|unix.VIRTIO_NET_HDR_F_DATA_VALID) != 0 {
		return false
	}
	if ip[9] == unix.IPPROTO_UDP && binary.BigEndian.Uint16(transport[udpChecksumAt:]) == 0 {
		return false // sent without one, which hosts take
	}
	return sum(pseudoHeader(ip, len(transport)), transport) != 0xffff
}

// pseudoHeader returns the sum of what the checksum of a transport header is also of (RFC 793, section 3.1).
func pseudoHeader(ip []byte, length int) uint16 {
	b := append([]byte{0, ip[9], byte(length >> 8), byte(length)}, ip[12:ipHeader]...)
	return sum(0, b)
}

// sum adds to a sum in ones' complement (RFC 1071).
func sum(begin uint16, b []byte) uint16 {
	total := uint32(begin)
	for ; len(b) >= 2; b = b[2:] {
		total += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	for total > 0xffff {
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}
