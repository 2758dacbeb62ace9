package rtnl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errShort = errors.New("netlink: message cut short")

// received is one netlink message.
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

// errno is the kernel's verdict in an NLMSG_ERROR or NLMSG_DONE.
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

// message is a request as it is sent.
func message(typ, flags uint16, seq uint32, payload []byte) []byte {
	b := make([]byte, 0, unix.NLMSG_HDRLEN+len(payload))
	b = native.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(payload)))
	b = native.AppendUint16(b, typ)
	b = native.AppendUint16(b, flags)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0) // port: the kernel fills in ours
	return append(b, payload...)
}

// appendAttr appends an attribute to b, padded to four bytes. A value has at most 65,531 bytes.
func appendAttr(b []byte, typ uint16, value []byte) []byte {
	b = native.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = native.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}

// appendAttr32 appends an attribute that holds a number of four bytes.
func appendAttr32(b []byte, typ uint16, value uint32) []byte {
	return appendAttr(b, typ, native.AppendUint32(nil, value))
}

// eachAttr hands each attribute in b to one, without the flags of its type.
func eachAttr(b []byte, one func(typ uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofRtAttr {
			return errShort
		}
		n := int(native.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return fmt.Errorf("netlink: an attribute says that it has %d bytes, there are %d", n, len(b))
		}
		typ := native.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
		if err := one(typ, b[unix.SizeofRtAttr:n]); err != nil {
			return err
		}
		b = b[min(align(n), len(b)):]
	}
	return nil
}

// number32 reads an attribute's value of four bytes.
func number32(value []byte) (uint32, error) {
	if len(value) != 4 {
		return 0, fmt.Errorf("netlink: a number has %d bytes, want 4", len(value))
	}
	return native.Uint32(value), nil
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }
