// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// node is a part of an expression.
type node interface {
	// generate adds code that leads to one of the labels, yes if the node is true of the frame.
	generate(c *code, yes, no label)
}

// side says which of a frame's two ends a condition is about.
type side int

const (
	either side = iota
	source
	destination
)

func (s side) String() string { return [...]string{"", "src", "dst"}[s] }

// eachOf has add make code for the source, the destination, or one after the other. Offsets are those of both.
func (s side) eachOf(c *code, src, dst int, yes, no label, add func(offset int, yes, no label)) {
	switch s {
	case source:
		add(src, yes, no)
	case destination:
		add(dst, yes, no)
	default:
		second := c.label()
		add(src, yes, second)
		c.place(second)
		add(dst, yes, no)
	}
}

// Offsets in frames, and the sizes of what is there.
const (
	etherDst, etherSrc, etherType = 0, 6, 12
	header                        = 14 // of Ethernet

	arpSender, arpTarget = header + 14, header + 24

	ipv4Fragment, ipv4Proto = header + 6, header + 9
	ipv4Src, ipv4Dst        = header + 12, header + 16

	ipv6Proto        = header + 6
	ipv6Src, ipv6Dst = header + 8, header + 24
	ipv6Payload      = header + 40
)

type all struct{}

// generate always leads to yes: a number is itself.
func (all) generate(c *code, yes, _ label) {
	c.add(bpf.LoadConstant{Dst: bpf.RegA, Val: 0})
	c.equal(0, yes, yes)
}

type not struct{ n node }

func (n not) generate(c *code, yes, no label) { n.n.generate(c, no, yes) }

type and struct{ a, b node }

func (n and) generate(c *code, yes, no label) {
	second := c.label()
	n.a.generate(c, second, no)
	c.place(second)
	n.b.generate(c, yes, no)
}

type or struct{ a, b node }

func (n or) generate(c *code, yes, no label) {
	second := c.label()
	n.a.generate(c, yes, second)
	c.place(second)
	n.b.generate(c, yes, no)
}

// protocol is a condition on the type of a frame and the protocol of its packet.
type protocol struct {
	ethertypes []uint32
	ipv4, ipv6 uint32 // 0: any of that kind
}

var protocols = map[string]protocol{
	"arp":   {ethertypes: []uint32{unix.ETH_P_ARP}},
	"ip":    {ethertypes: []uint32{unix.ETH_P_IP}},
	"ip6":   {ethertypes: []uint32{unix.ETH_P_IPV6}},
	"icmp":  {ethertypes: []uint32{unix.ETH_P_IP}, ipv4: unix.IPPROTO_ICMP},
	"icmp6": {ethertypes: []uint32{unix.ETH_P_IPV6}, ipv6: unix.IPPROTO_ICMPV6},
	"tcp":   transport(unix.IPPROTO_TCP),
	"udp":   transport(unix.IPPROTO_UDP),
	"sctp":  transport(unix.IPPROTO_SCTP),
}

// transports are the protocols that have ports.
var transports = map[string]uint32{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

func transport(number uint32) protocol {
	return protocol{[]uint32{unix.ETH_P_IP, unix.ETH_P_IPV6}, number, number}
}

func (p protocol) generate(c *code, yes, no label) {
	for i, ethertype := range p.ethertypes {
		next := no
		if i < len(p.ethertypes)-1 {
			next = c.label()
		}
		c.load(etherType, 2)
		number, offset := p.ipv4, ipv4Proto
		if ethertype == unix.ETH_P_IPV6 {
			number, offset = p.ipv6, ipv6Proto
		}
		if number == 0 {
			c.equal(ethertype, yes, next)
		} else {
			c.require(ethertype, next)
			c.load(offset, 1)
			c.equal(number, yes, no)
		}
		if next != no {
			c.place(next)
		}
	}
}

// station is a condition on a MAC.
type station struct {
	mac [6]byte
	of  side
}

func (s station) generate(c *code, yes, no label) {
	s.of.eachOf(c, etherSrc, etherDst, yes, no, func(offset int, yes, no label) {
		c.load(offset, 4)
		c.require(binary.BigEndian.Uint32(s.mac[:]), no)
		c.load(offset+4, 2)
		c.equal(uint32(binary.BigEndian.Uint16(s.mac[4:])), yes, no)
	})
}

// prefix is a condition on addresses.
type prefix struct {
	prefix netip.Prefix
	of     side
}

func (p prefix) generate(c *code, yes, no label) {
	if p.prefix.Addr().Is6() {
		c.load(etherType, 2)
		c.require(unix.ETH_P_IPV6, no)
		p.of.eachOf(c, ipv6Src, ipv6Dst, yes, no, func(offset int, yes, no label) { p.match(c, offset, yes, no) })
		return
	}
	packet, arp := c.label(), c.label()
	notIPv4 := c.label()
	c.load(etherType, 2)
	c.equal(unix.ETH_P_IP, packet, notIPv4)
	c.place(notIPv4)
	c.equal(unix.ETH_P_ARP, arp, no)
	c.place(packet)
	p.of.eachOf(c, ipv4Src, ipv4Dst, yes, no, func(offset int, yes, no label) { p.match(c, offset, yes, no) })
	c.place(arp)
	p.of.eachOf(c, arpSender, arpTarget, yes, no, func(offset int, yes, no label) { p.match(c, offset, yes, no) })
}

// match compares the address at the offset with the prefix, four bytes at a time.
func (p prefix) match(c *code, offset int, yes, no label) {
	want, bits := p.prefix.Addr().AsSlice(), p.prefix.Bits()
	for i := 0; i < len(want) && (i == 0 || bits > 8*i); i += 4 {
		mask := uint32(0xffffffff)
		if rest := bits - 8*i; rest < 32 {
			mask = ^(mask >> rest)
		}
		c.load(offset+i, 4)
		if mask != 0xffffffff {
			c.add(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		value := binary.BigEndian.Uint32(want[i:]) & mask
		if last := i+4 >= len(want) || bits <= 8*(i+4); last {
			c.equal(value, yes, no)
		} else {
			c.require(value, no)
		}
	}
}

// ports is a condition on the ports of a transport protocol.
type ports struct {
	transport   uint32 // 0: any that has ports
	first, last uint32
	of          side
}

func (p ports) generate(c *code, yes, no label) {
	ipv4, ipv6, notIPv4 := c.label(), c.label(), c.label()
	c.load(etherType, 2)
	c.equal(unix.ETH_P_IP, ipv4, notIPv4)
	c.place(notIPv4)
	c.equal(unix.ETH_P_IPV6, ipv6, no)

	c.place(ipv4)
	c.load(ipv4Proto, 1)
	p.requireTransport(c, no)
	first := c.label()
	c.load(ipv4Fragment, 2)
	const offsetOfFragment = 0x1fff
	c.jump(bpf.JumpBitsNotSet, offsetOfFragment, first, no) // later fragments have no ports
	c.place(first)
	c.add(bpf.LoadMemShift{Off: header})
	p.of.eachOf(c, header, header+2, yes, no, func(offset int, yes, no label) {
		c.add(bpf.LoadIndirect{Off: uint32(offset), Size: 2})
		p.inRange(c, yes, no)
	})

	c.place(ipv6)
	c.load(ipv6Proto, 1)
	p.requireTransport(c, no)
	p.of.eachOf(c, ipv6Payload, ipv6Payload+2, yes, no, func(offset int, yes, no label) {
		c.load(offset, 2)
		p.inRange(c, yes, no)
	})
}

// requireTransport leads to no unless the accumulator is the number of a protocol that the condition is about.
func (p ports) requireTransport(c *code, no label) {
	if p.transport != 0 {
		c.require(p.transport, no)
		return
	}
	is, notTCP, notUDP := c.label(), c.label(), c.label()
	c.equal(unix.IPPROTO_TCP, is, notTCP)
	c.place(notTCP)
	c.equal(unix.IPPROTO_UDP, is, notUDP)
	c.place(notUDP)
	c.equal(unix.IPPROTO_SCTP, is, no)
	c.place(is)
}

// inRange compares the accumulator with the ports.
func (p ports) inRange(c *code, yes, no label) {
	if p.first == p.last {
		c.equal(p.first, yes, no)
		return
	}
	atLeast := c.label()
	c.jump(bpf.JumpGreaterOrEqual, p.first, atLeast, no)
	c.place(atLeast)
	c.jump(bpf.JumpLessOrEqual, p.last, yes, no)
}
