// SPDX-License-Identifier: Apache-2.0

// Package trace puts what nsproc exchanged with the kernel into words: the name of each message, of its flags, of its
// fields and of its attributes as the kernel's headers have them. It runs in the plugin, in the host's namespace, on
// what was recorded inside a container's.
//
// It knows what nsproc and the kernel say to each other; anything else it shows as numbers. No library was found that
// has these names: those that speak netlink decode into types of their own and keep no names.
package trace

import (
	"fmt"
	"math/bits"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/nft"
	"github.com/weaveplugin/weave/nsproc/record"
	"github.com/weaveplugin/weave/nsproc/rtnl"
)

// Lines returns a line for each message, which begins with the time and with > for one to the kernel or < for one from
// it, and an indented line for each of its attributes. What can't be decoded is shown as it is.
func Lines(datagrams []record.Datagram) (lines []string) {
	for _, d := range datagrams {
		lines = append(lines, ofDatagram(d)...)
	}
	return lines
}

func ofDatagram(d record.Datagram) (lines []string) {
	arrow := "<"
	if d.Sent {
		arrow = ">"
	}
	head := fmt.Sprintf("%8.3f ms %s ", float64(d.After)/float64(time.Millisecond), arrow)
	for b := d.Messages; len(b) > 0; {
		m, rest, err := rtnl.NextMessage(b)
		if err != nil {
			return append(lines, fmt.Sprintf("%s%d bytes: %v", head, len(b), err))
		}
		b = rest
		title, attrs := ofMessage(d, m)
		lines = append(append(lines, head+title), attrs...)
	}
	return lines
}

// ofMessage returns a message's title and a line for each of its attributes.
func ofMessage(d record.Datagram, m rtnl.Message) (title string, attrs []string) {
	k := kindOf(d.Protocol, d.Sent, m.Type)
	title = strings.TrimSpace(fmt.Sprintf("%s %s", k.name, flagNames(d, m)))
	if m.Type == unix.NLMSG_ERROR || m.Type == unix.NLMSG_DONE {
		return title + result(m), nil
	}
	if len(m.Payload) < k.header {
		return fmt.Sprintf("%s %x", title, m.Payload), nil
	}
	if k.fields != nil {
		title += " " + k.fields(m.Payload[:k.header])
	}
	return title, ofAttributes(m.Payload[k.header:], k.attributes, 1)
}

// result returns what an NLMSG_ERROR or NLMSG_DONE says.
func result(m rtnl.Message) string {
	if len(m.Payload) < 4 {
		return ""
	}
	errno := unix.Errno(-int32(native.Uint32(m.Payload)))
	switch reason := m.Reason(); {
	case errno == 0:
		return " ok"
	case reason != "":
		return fmt.Sprintf(" %s (%v): %q", unix.ErrnoName(errno), errno, reason)
	}
	return fmt.Sprintf(" %s (%v)", unix.ErrnoName(errno), errno)
}

// ofAttributes returns a line for each attribute in b, indented by depth.
func ofAttributes(b []byte, known attributes, depth int) (lines []string) {
	indent := strings.Repeat("  ", depth+7)
	err := rtnl.EachAttr(b, func(typ uint16, v []byte) error {
		a, ok := known[typ]
		if !ok {
			lines = append(lines, fmt.Sprintf("%sattribute %d: %s", indent, typ, hex(v)))
			return nil
		}
		if a.inside != nil {
			lines = append(append(lines, indent+a.name), ofAttributes(v, a.inside, depth+1)...)
			return nil
		}
		lines = append(lines, fmt.Sprintf("%s%s: %s", indent, a.name, a.value(v)))
		return nil
	})
	if err != nil {
		lines = append(lines, fmt.Sprintf("%s%v: %s", indent, err, hex(b)))
	}
	return lines
}

// flagNames returns the names of a message's flags. What the same bits mean depends on the message (linux/netlink.h).
func flagNames(d record.Datagram, m rtnl.Message) string {
	names := map[uint16]string{
		unix.NLM_F_REQUEST: "REQUEST", unix.NLM_F_MULTI: "MULTI", unix.NLM_F_ACK: "ACK", unix.NLM_F_ECHO: "ECHO",
		unix.NLM_F_DUMP_INTR: "DUMP_INTR", unix.NLM_F_DUMP_FILTERED: "DUMP_FILTERED",
	}
	switch {
	case m.Type == unix.NLMSG_ERROR || m.Type == unix.NLMSG_DONE:
		names[unix.NLM_F_CAPPED], names[unix.NLM_F_ACK_TLVS] = "CAPPED", "ACK_TLVS"
	case d.Sent && d.Protocol == unix.NETLINK_SOCK_DIAG,
		d.Sent && d.Protocol == unix.NETLINK_ROUTE && m.Type%4 == 2: // RTM_GET...
		names[unix.NLM_F_ROOT], names[unix.NLM_F_MATCH] = "ROOT", "MATCH" // both are NLM_F_DUMP
	default:
		names[unix.NLM_F_REPLACE], names[unix.NLM_F_EXCL] = "REPLACE", "EXCL"
		names[unix.NLM_F_CREATE], names[unix.NLM_F_APPEND] = "CREATE", "APPEND"
	}
	return joinBits(uint32(m.Flags), func(bit uint32) string { return names[uint16(bit)] })
}

// joinBits returns the names of the bits that are set, with | between them, in their order. A bit without a name is
// shown as a number.
func joinBits(set uint32, name func(bit uint32) string) string {
	var names []string
	for ; set != 0; set &= set - 1 {
		bit := uint32(1) << bits.TrailingZeros32(set)
		if n := name(bit); n != "" {
			names = append(names, n)
		} else {
			names = append(names, fmt.Sprintf("%#x", bit))
		}
	}
	return strings.Join(names, "|")
}

// kind is what a type of message consists of.
type kind struct {
	name       string
	header     int                 // bytes before the attributes
	fields     func([]byte) string // puts the header into words; nil: it says nothing
	attributes attributes
}

func kindOf(protocol int, sent bool, typ uint16) kind {
	switch {
	case protocol == unix.NETLINK_NETFILTER && typ >= unix.NLMSG_MIN_TYPE:
		return kind{nft.TypeName(typ), sizeofNfgenmsg, ofNetfilter, tableAttributes[typ&0xff]}
	case protocol == unix.NETLINK_SOCK_DIAG && typ == rtnl.SockDiagByFamily:
		return socketKind(sent)
	case typ < unix.RTM_BASE:
		return kind{name: rtnl.TypeName(typ)}
	}
	k := routeKinds[typ-typ%4] // the lower two bits are the verb
	k.name = rtnl.TypeName(typ)
	return k
}
