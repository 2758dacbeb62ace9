// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// field is a property of packets that a rule of nftables compares.
type field struct {
	option string                         // that iptables has for it; empty: it is none of those
	value  func(data, mask []byte) string // what it is compared with, as iptables has it; unclear: it is none of that
	mask   []byte                         // of the bits that are compared; nil: all
}

// metaFields are the fields that are none of the packet's headers'.
var metaFields = map[expr.MetaKey]field{
	expr.MetaKeyIIFNAME: {option: "-i", value: whole(linkName)},
	expr.MetaKeyOIFNAME: {option: "-o", value: whole(linkName)},
	expr.MetaKeyL4PROTO: {option: "-p", value: whole(protocolName)},
}

// headerField returns the field of a packet's headers that a rule loads.
func headerField(p *expr.Payload) field {
	if p.OperationType != expr.PayloadLoad {
		return field{}
	}
	const ipv4Length, ipv6Length = 4, 16
	// Of a subnet whose length is a number of bytes, these alone are loaded.
	switch network := p.Base == expr.PayloadBaseNetworkHeader; {
	case p.Base == expr.PayloadBaseTransportHeader && p.Offset == 0 && p.Len == 2:
		return field{option: "--sport", value: whole(portNumber)}
	case p.Base == expr.PayloadBaseTransportHeader && p.Offset == 2 && p.Len == 2:
		return field{option: "--dport", value: whole(portNumber)}
	case !network:
	case p.Offset == 9 && p.Len == 1:
		return field{option: "-p", value: whole(protocolName)}
	case p.Offset == 12 && p.Len <= ipv4Length:
		return field{option: "-s", value: subnet(ipv4Length)}
	case p.Offset == 16 && p.Len <= ipv4Length:
		return field{option: "-d", value: subnet(ipv4Length)}
	case p.Offset == 8 && p.Len > 1 && p.Len <= ipv6Length:
		return field{option: "-s", value: subnet(ipv6Length)}
	case p.Offset == 24 && p.Len <= ipv6Length:
		return field{option: "-d", value: subnet(ipv6Length)}
	}
	return field{}
}

// connectionState is iptables' option for the states of connections.
const connectionState = "--ctstate"

// connectionField returns the field of a packet's connection that a rule loads.
func connectionField(c *expr.Ct) field {
	if c.Key == expr.CtKeySTATE && !c.SourceRegister {
		return field{option: connectionState, value: stateNames}
	}
	return field{}
}

// stateNames returns the names of the states in a mask, which are compared with none of them.
func stateNames(data, mask []byte) string {
	const size = 4
	if len(mask) != size || !isZero(data) {
		return unclear
	}
	left, names := binary.NativeEndian.Uint32(mask), []string(nil)
	for bit, name := range []string{0: "INVALID", 1: "ESTABLISHED", 2: "RELATED", 3: "NEW", 6: "UNTRACKED"} {
		if name != "" && left&(1<<bit) != 0 {
			names = append(names, name)
			left &^= 1 << bit
		}
	}
	if left != 0 || names == nil {
		return unclear
	}
	return strings.Join(names, ",")
}

// compare returns the condition as iptables has it.
func (f field) compare(c *expr.Cmp) []string {
	if f.option == "" || c.Op != expr.CmpOpEq && c.Op != expr.CmpOpNeq {
		return []string{unclear}
	}
	if f.option == connectionState { // a packet is of a state if the comparison with none fails
		state := comparison(f.option, c.Op == expr.CmpOpEq, f.value(c.Data, f.mask))
		return append([]string{"-m", "conntrack"}, state...)
	}
	return comparison(f.option, c.Op == expr.CmpOpNeq, f.value(c.Data, f.mask))
}

// whole returns a value that is compared in all of its bits.
func whole(value func([]byte) string) func(data, mask []byte) string {
	return func(data, mask []byte) string {
		if mask != nil {
			return unclear
		}
		return value(data)
	}
}

func protocolName(b []byte) string {
	if len(b) != 1 {
		return unclear
	}
	names := map[byte]string{
		unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMPV6: "ipv6-icmp",
	}
	if name := names[b[0]]; name != "" {
		return name
	}
	return strconv.Itoa(int(b[0]))
}

func portNumber(b []byte) string {
	if len(b) != 2 {
		return unclear
	}
	return strconv.Itoa(int(binary.BigEndian.Uint16(b)))
}

// subnet returns what writes the beginning of an address of so many bytes.
func subnet(length int) func(data, mask []byte) string {
	return func(data, mask []byte) string {
		if len(data) > length || mask != nil && len(mask) != len(data) {
			return unclear
		}
		bits := 8 * len(data)
		if mask != nil {
			var size int
			if bits, size = net.IPMask(mask).Size(); size == 0 {
				return unclear // it has gaps
			}
		}
		address, ok := netip.AddrFromSlice(append(append([]byte(nil), data...), make([]byte, length-len(data))...))
		if !ok {
			return unclear
		}
		return netip.PrefixFrom(address, bits).String()
	}
}
