// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errShort means that a message ends before something that it has to contain.
var errShort = errors.New("netlink: message cut short")

// Message is a netlink message: its header's fields and its payload.
type Message struct {
	Type, Flags uint16
	Seq, Port   uint32
	Payload     []byte
	whole       []byte // header and payload
}

// NextMessage splits the first message off a datagram, of whichever protocol of netlink.
func NextMessage(b []byte) (m Message, rest []byte, err error) {
	if len(b) < unix.NLMSG_HDRLEN {
		return m, nil, errShort
	}
	n := int(native.Uint32(b))
	if n < unix.NLMSG_HDRLEN || n > len(b) {
		return m, nil, fmt.Errorf("netlink: a message says that it has %d bytes, there are %d", n, len(b))
	}
	m = Message{
		Type:    native.Uint16(b[4:]),
		Flags:   native.Uint16(b[6:]),
		Seq:     native.Uint32(b[8:]),
		Port:    native.Uint32(b[12:]),
		Payload: b[unix.NLMSG_HDRLEN:n],
		whole:   b[:n],
	}
	return m, b[min(align(n), len(b)):], nil
}

// TypeName returns the name of a type of rtnetlink's messages, as rtnetlink(7) has it.
func TypeName(typ uint16) string {
	switch typ {
	case unix.NLMSG_NOOP:
		return "NLMSG_NOOP"
	case unix.NLMSG_ERROR:
		return "NLMSG_ERROR"
	case unix.NLMSG_DONE:
		return "NLMSG_DONE"
	case unix.NLMSG_OVERRUN:
		return "NLMSG_OVERRUN"
	}
	if typ < unix.RTM_BASE {
		return fmt.Sprintf("NLMSG %d", typ)
	}
	verbs := [...]string{"NEW", "DEL", "GET", "SET"} // the lower two bits, in linux/rtnetlink.h
	verb := verbs[typ%4]
	switch typ - typ%4 {
	case unix.RTM_NEWLINK:
		return "RTM_" + verb + "LINK"
	case unix.RTM_NEWADDR:
		return "RTM_" + verb + "ADDR"
	case unix.RTM_NEWROUTE:
		return "RTM_" + verb + "ROUTE"
	case unix.RTM_NEWNEIGH:
		return "RTM_" + verb + "NEIGH"
	case unix.RTM_NEWRULE:
		return "RTM_" + verb + "RULE"
	case unix.RTM_NEWNSID:
		return "RTM_" + verb + "NSID"
	}
	return fmt.Sprintf("RTM %d", typ)
}

// errno returns the error in an NLMSG_ERROR or NLMSG_DONE, nil if it reports success.
func (m Message) errno() error {
	switch {
	case len(m.Payload) < 4 && m.Type == unix.NLMSG_DONE:
		return nil // the payload is optional
	case len(m.Payload) < 4:
		return errShort
	}
	code := int32(native.Uint32(m.Payload))
	switch reason := m.Reason(); {
	case code == 0:
		return nil
	case reason != "":
		return fmt.Errorf("%w: %w (%s)", ErrRefused, unix.Errno(-code), reason)
	}
	return fmt.Errorf("%w: %w", ErrRefused, unix.Errno(-code))
}

// Reason returns what the kernel says in words, in an NLMSG_ERROR or NLMSG_DONE with NLM_F_ACK_TLVS; empty: nothing.
func (m Message) Reason() (reason string) {
	const code = 4 // bytes, at the beginning of the payload
	if m.Flags&unix.NLM_F_ACK_TLVS == 0 || len(m.Payload) < code {
		return ""
	}
	attrs := m.Payload[code:]
	if m.Type == unix.NLMSG_ERROR { // the request's header follows, with its payload unless that is said to be left out
		_, rest, err := NextMessage(attrs)
		if m.Flags&unix.NLM_F_CAPPED != 0 && len(attrs) >= unix.NLMSG_HDRLEN {
			rest, err = attrs[unix.NLMSG_HDRLEN:], nil
		}
		if err != nil {
			return ""
		}
		attrs = rest
	}
	_ = EachAttr(attrs, func(typ uint16, v []byte) error { // what is found before an error is good
		if typ == unix.NLMSGERR_ATTR_MSG {
			reason = text(v)
		}
		return nil
	})
	return reason
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

// EachAttr calls handle with the type, without its flag bits, and the value of each attribute in b. It returns the
// first error of handle, or what is wrong with b.
func EachAttr(b []byte, handle func(typ uint16, value []byte) error) error {
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
