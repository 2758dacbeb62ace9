// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrMissed means that the kernel had more events than it keeps for a Listener: some are lost.
var ErrMissed = errors.New("the kernel had more events than fit into its buffer")

// listenBuffer holds the events of a burst, in bytes: some 2 kB each.
const listenBuffer = 4 << 20

// Event is a change of a link, of an address or of a default route, in whatever network namespace has an id in the
// Listener's own.
type Event struct {
	Type uint16 // RTM_NEWLINK, RTM_DELADDR, ...
	NSID int    // id of the namespace that it was in; Here: the Listener's own
	Link int    // index of the link; 0: not told, as with a route
	Port uint32 // of the netlink socket that has made the change; 0: the kernel itself, or it does not tell

	// Of links in the Listener's own namespace.
	Name     string
	Carrier  bool
	Peer     int // for a veth the index of its other end, in the namespace of that end
	PeerNSID int // id of that namespace; Here: the Listener's own
}

// Listener hears of changes in all namespaces. One goroutine may use it; another one may close it.
type Listener struct {
	file *os.File
	raw  syscall.RawConn
	buf  []byte
}

// listenGroups are the changes that a Listener hears of.
var listenGroups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
}

// Listen returns a Listener in the namespace of the calling thread. It needs CAP_NET_BROADCAST, and CAP_NET_ADMIN for
// a large buffer; without the error wraps unix.EPERM.
func Listen() (_ *Listener, err error) {
	const flags = unix.SOCK_RAW | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	fd, err := unix.Socket(unix.AF_NETLINK, flags, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open an rtnetlink socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), "rtnetlink")
	defer func() {
		if err != nil {
			file.Close()
			err = fmt.Errorf("listen to changes in all namespaces: %w", err)
		}
	}()
	// The filter comes before the groups, so that nothing passes it.
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, listenBuffer),
		attachFilter(fd),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
	)
	for _, group := range listenGroups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		}
	}
	if err != nil {
		return nil, err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &Listener{file: file, raw: raw, buf: make([]byte, bufferSize)}, nil
}

// attachFilter has the kernel drop events about other routes than default ones. A container may run a router with a
// million of them.
func attachFilter(fd int) error {
	const typeOffset, lengthOffset = 4, unix.NLMSG_HDRLEN + 1 // nlmsg_type, rtm_dst_len
	const accept, drop = 1<<32 - 1, 0
	is := func(typ uint16) uint32 { // as the filter loads it: in network order
		return uint32(binary.BigEndian.Uint16(native.AppendUint16(nil, typ)))
	}
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: typeOffset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: is(unix.RTM_NEWROUTE), Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: is(unix.RTM_DELROUTE), Jf: 2},
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: lengthOffset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: accept},
		{Code: unix.BPF_RET | unix.BPF_K, K: drop},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// Receive waits for the next events and calls handle with each. The error is ErrMissed, or wraps os.ErrClosed after
// Close. What can't be decoded is passed over.
func (l *Listener) Receive(handle func(Event)) error {
	control := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	var from unix.Sockaddr
	var err error
	readErr := l.raw.Read(func(fd uintptr) bool {
		n, oobn, _, from, err = unix.Recvmsg(int(fd), l.buf, control, 0)
		return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	switch {
	case readErr != nil:
		return fmt.Errorf("netlink receive: %w", os.ErrClosed)
	case errors.Is(err, unix.ENOBUFS):
		return ErrMissed
	case err != nil:
		return fmt.Errorf("netlink receive: %w", err)
	}
	if sa, ok := from.(*unix.SockaddrNetlink); ok && sa.Pid != 0 {
		return nil // from another process
	}
	namespace := namespaceOf(control[:oobn])
	for data := l.buf[:n]; len(data) > 0; {
		m, rest, err := NextMessage(data)
		if err != nil {
			break // it was cut off, since a link has more names than fit
		}
		data = rest
		if e, ok := decodeEvent(m, namespace); ok {
			handle(e)
		}
	}
	return nil
}

// namespaceOf returns the id of the namespace that a message is about, out of its control message.
func namespaceOf(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return Here
	}
	for _, m := range messages {
		is := m.Header.Level == unix.SOL_NETLINK && m.Header.Type == unix.NETLINK_LISTEN_ALL_NSID
		if is && len(m.Data) >= 4 {
			return int(int32(native.Uint32(m.Data)))
		}
	}
	return Here
}

// decodeEvent decodes an event. Of one of another namespace it reads the index alone.
func decodeEvent(m Message, namespace int) (e Event, ok bool) {
	e = Event{Type: m.Type, NSID: namespace, Port: m.Port, PeerNSID: Here}
	switch m.Type {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return e, true
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(m.Payload) < unix.SizeofIfAddrmsg {
			return e, false
		}
		e.Link = int(native.Uint32(m.Payload[4:]))
		return e, true
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
	default:
		return e, false
	}
	if len(m.Payload) < unix.SizeofIfInfomsg || m.Payload[0] != unix.AF_UNSPEC { // the others are about bridge ports
		return e, false
	}
	e.Link = int(int32(native.Uint32(m.Payload[4:])))
	if namespace != Here {
		return e, true
	}
	e.Carrier = native.Uint32(m.Payload[8:])&unix.IFF_LOWER_UP != 0
	err := EachAttr(m.Payload[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.IFLA_IFNAME:
			e.Name = text(v)
		case unix.IFLA_LINK:
			e.Peer, err = number(v)
		case unix.IFLA_LINK_NETNSID:
			e.PeerNSID, err = number(v)
		}
		return err
	})
	return e, err == nil
}

// Close ends the subscription, and Receive.
func (l *Listener) Close() { l.file.Close() }
