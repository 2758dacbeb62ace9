// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

var native = binary.NativeEndian

// attributes are those that may be in a message or in another attribute, by their type.
type attributes map[uint16]attribute

// attribute is how an attribute is shown.
type attribute struct {
	name   string
	value  func([]byte) string
	inside attributes // not nil: it consists of these
}

// named returns attributes of the types from 1 on that have the names and are shown by value.
func named(value func([]byte) string, names ...string) attributes {
	all := attributes{}
	for i, name := range names {
		all[uint16(i+1)] = attribute{name: name, value: value}
	}
	return all
}

// with returns a with those of more in the place of its own.
func (a attributes) with(more attributes) attributes {
	for typ, one := range more {
		if one.name == "" {
			one.name = a[typ].name
		}
		a[typ] = one
	}
	return a
}

// nested is an attribute that consists of others.
func nested(inside attributes) attribute {
	return attribute{inside: inside}
}

// shown is an attribute whose name is known already.
func shown(value func([]byte) string) attribute { return attribute{value: value} }

// maxHex is how many bytes of what has no other form are shown.
const maxHex = 32

func hex(v []byte) string {
	if len(v) > maxHex {
		return fmt.Sprintf("%x... (%d bytes)", v[:maxHex], len(v))
	}
	if len(v) == 0 {
		return "empty"
	}
	return fmt.Sprintf("%x", v)
}

// text shows a text, in quotes: a container chooses the names of its links.
func text(v []byte) string {
	v, _, _ = bytes.Cut(v, []byte{0})
	return strconv.Quote(string(v))
}

// number shows a number of the machine's byte order.
func number(v []byte) string { return numberIn(native, v) }

// bigNumber shows a number of network byte order, which nftables has.
func bigNumber(v []byte) string { return numberIn(binary.BigEndian, v) }

func numberIn(order binary.ByteOrder, v []byte) string {
	switch len(v) {
	case 1:
		return strconv.FormatUint(uint64(v[0]), 10)
	case 2:
		return strconv.FormatUint(uint64(order.Uint16(v)), 10)
	case 4:
		return strconv.FormatUint(uint64(order.Uint32(v)), 10)
	case 8:
		return strconv.FormatUint(order.Uint64(v), 10)
	}
	return hex(v)
}

// address shows an IP or a MAC address.
func address(v []byte) string {
	if len(v) == 6 {
		return net.HardwareAddr(v).String()
	}
	if a, ok := netip.AddrFromSlice(v); ok {
		return a.String()
	}
	return hex(v)
}

// family returns the name of an address family.
func family(b byte) string {
	switch b {
	case unix.AF_UNSPEC:
		return "unspec"
	case unix.AF_INET:
		return "inet"
	case unix.AF_INET6:
		return "inet6"
	case unix.AF_BRIDGE:
		return "bridge"
	}
	return strconv.Itoa(int(b))
}
