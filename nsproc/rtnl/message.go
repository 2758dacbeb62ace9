// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errShort means that a message ends before something that it has to contain.
var errShort = errors.New("netlink: message cut short")

// received is a netlink message that was received.
type received struct {
	typ, flags uint16
	seq        uint32
	payload    []byte
	whole      []byte // header and payload
}

// nextMessage splits the first message off a datagram.
func nextMessage(b []byte) (m received, rest []byte, err error) {
	if len(b) < unix.NLMSG_HDRLEN {
		return m, nil, errShort
	}
	n := int(native.Uint32(b))
	if n < unix.NLMSG_HDRLEN || n > len(b) {
		return m, nil, fmt.Errorf("netlink: a message says that it has %d bytes, there are %d", n, len(b))
	}
	m = received{
		typ:     native.Uint16(b[4:]),
		flags:   native.Uint16(b[6:]),
		seq:     native.Uint32(b[8:]),
		payload: b[unix.NLMSG_HDRLEN:n],
		whole:   b[:n],
	}
	return m, b[min(align(n), len(b)):], nil
}

// errno returns the error in an NLMSG_ERROR or NLMSG_DONE, nil if it reports success.
func (m received) errno() error {
	switch {
	case len(m.payload) < 4 && m.typ == unix.NLMSG_DONE:
		return nil // the payload is optional
	case len(m.payload) < 4:
		return errShort
	}
	if code := int32(native.Uint32(m.payload)); code != 0 {
		return fmt.Errorf("%w: %w", ErrRefused, unix.Errno(-code))
	}
	return nil
}

// message encodes a netlink message.
func message(typ, flags uint16, seq uint32, payload []byte) []byte {
	b := make([]byte, 0, unix.NLMSG_HDRLEN+len(payload))
	b = native.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(payload)))
	b = native.AppendUint16(b, typ)
	b = native.AppendUint16(b, flags)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0) // port number: filled in by the kernel
	return append(b, payload...)
}

// appendAttr appends an attribute, padded to four bytes, to b. The value must not exceed 65,531 bytes.
func appendAttr(b []byte, typ uint16, value []byte) []byte {
	b = native.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = native.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}

// appendAttr32 appends an attribute with a 32-bit number.
func appendAttr32(b []byte, typ uint16, value uint32) []byte {
	return appendAttr(b, typ, native.AppendUint32(nil, value))
}

// eachAttr calls handle with the type, without its flag bits, and the value of each attribute in b.
func eachAttr(b []byte, handle func(typ uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofRtAttr {
			return errShort
		}
		n := int(native.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return fmt.Errorf("netlink: an attribute says that it has %d bytes, there are %d", n, len(b))
		}
		typ := native.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		if err := handle(typ, b[unix.SizeofRtAttr:n]); err != nil {
			return err
		}
		b = b[min(align(n), len(b)):]
	}
	return nil
}

// number32 decodes an attribute with a 32-bit number.
func number32(value []byte) (uint32, error) {
	if len(value) != 4 {
		return 0, fmt.Errorf("netlink: a number has %d bytes, want 4", len(value))
	}
	return native.Uint32(value), nil
}

// align rounds n up to the alignment of messages and attributes.
func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }
