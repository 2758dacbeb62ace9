// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/record"
)

// Sizes in bytes of the structs of linux/inet_diag.h.
const (
	SizeofDiagRequest = 56 // inet_diag_req_v2
	SizeofDiagMessage = 72 // inet_diag_msg
)

// The states of sockets in net/tcp_states.h.
const (
	stateClosed    = 7 // of UDP: not connected
	stateListening = 10
)

// SockDiagByFamily is SOCK_DIAG_BY_FAMILY, the type of the messages about sockets (sock_diag(7)).
const SockDiagByFamily = 20

// waiting are the sockets that DumpSockets lists.
var waiting = []struct {
	protocol, state byte
}{
	{unix.IPPROTO_TCP, stateListening}, {unix.IPPROTO_UDP, stateClosed},
}

// DumpSockets returns the kernel's own messages about the sockets in the namespace of the calling thread that wait for
// packets of others, each padded to four bytes, with an NLMSG_DONE at the end. The error wraps ErrRefused if the kernel
// does not tell, since it has no sock_diag(7).
func DumpSockets(recorder *record.Recorder) ([]byte, error) {
	conn, err := dialProtocol(unix.NETLINK_SOCK_DIAG, recorder)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var all []byte
	for _, w := range waiting {
		for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
			request := make([]byte, SizeofDiagRequest)
			request[0], request[1] = family, w.protocol
			native.PutUint32(request[4:], 1<<w.state)
			before := len(all)
			err := conn.dump(SockDiagByFamily, request, func() { all = all[:before] }, func(m Message) (err error) {
				if len(m.Payload) < SizeofDiagMessage {
					return errShort
				}
				m.Payload[1] = w.protocol // for decodeSockets; UDP's state says nothing
				all, err = appendMessage(all, m)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("list sockets: %w", err)
			}
		}
	}
	return append(all, message(unix.NLMSG_DONE, 0, 0, nil)...), nil
}

// decodeSockets decodes what DumpSockets returned.
func decodeSockets(dump []byte) ([]netstate.Socket, error) {
	var all []netstate.Socket
	for {
		m, rest, err := NextMessage(dump)
		if err != nil {
			return nil, err
		}
		dump = rest
		switch {
		case m.Type == unix.NLMSG_DONE && len(dump) > 0:
			return nil, fmt.Errorf("netlink: %d bytes after the end of a dump", len(dump))
		case m.Type == unix.NLMSG_DONE:
			return all, nil
		case m.Type != SockDiagByFamily:
			return nil, fmt.Errorf("netlink: a message of type %d in a dump of sockets", m.Type)
		}
		s, err := decodeSocket(m.Payload)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
}

// decodeSocket decodes a struct inet_diag_msg, whose state DumpSockets has replaced by the protocol.
func decodeSocket(b []byte) (s netstate.Socket, err error) {
	if len(b) < SizeofDiagMessage {
		return s, errShort
	}
	const port, address, queue, uid = 4, 8, 56, 64 // offsets
	local := b[address : address+16]
	if b[0] == unix.AF_INET {
		local = local[:4]
	}
	a, _ := netip.AddrFromSlice(local) // 4 or 16 bytes always are an address
	s.Local = netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[port:]))
	s.Queued, s.UID = native.Uint32(b[queue:]), native.Uint32(b[uid:])
	switch b[1] {
	case unix.IPPROTO_TCP:
		s.Protocol = "tcp"
	case unix.IPPROTO_UDP:
		s.Protocol = "udp"
	default:
		return s, fmt.Errorf("netlink: a socket of protocol %d", b[1])
	}
	return s, nil
}
