// SPDX-License-Identifier: Apache-2.0

// Package filter compiles expressions about packets into programs that the kernel runs at a packet socket. The language
// is the part of pcap-filter(7) that is about Ethernet frames with ARP, IPv4 and IPv6:
//
//	[src|dst] host ADDRESS      ether [src|dst] host MAC
//	[src|dst] net PREFIX        arp  ip  ip6  icmp  icmp6  tcp  udp  sctp
//	[tcp|udp] [src|dst] port NUMBER
//	[tcp|udp] [src|dst] portrange NUMBER-NUMBER
//	not (!)   and (&&)   or (||)   ( )
//
// As in pcap-filter(7) a host of IPv4 is one that sends, is sent or is asked for by ARP, too; ports are those of first
// fragments, and of IPv6 without extension headers; and and or bind equally strongly, from the left, not more strongly
// than both.
//
// It is the project's own since no library does it: libpcap is written in C, which a static binary without cgo can't
// have, and github.com/packetcap/go-pcap (v0.0.0-20250723190045) takes expressions with not for others. The
// instructions are assembled by golang.org/x/net/bpf, whose virtual machine the tests run them in.
package filter

import (
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
)

// MaxLength is how many bytes an expression may have.
const MaxLength = 1024

// Expr is a condition on frames.
type Expr struct{ n node }

// Parse reads an expression; an empty one is true of all frames. The error quotes what can't be read.
func Parse(text string) (Expr, error) {
	if len(text) > MaxLength {
		return Expr{}, fmt.Errorf("filter: %d bytes: want at most %d", len(text), MaxLength)
	}
	p := parser{tokens: tokenize(text)}
	if len(p.tokens) == 0 {
		return Expr{all{}}, nil
	}
	n, err := p.expression()
	if err == nil && p.next() != "" {
		err = fmt.Errorf("%.40q: want and, or or the end", p.tokens[0])
	}
	if err != nil {
		return Expr{}, fmt.Errorf("filter %.80q: %w", text, err)
	}
	return Expr{n}, nil
}

// Between is true of frames that are about one of the addresses and one of the others.
func Between(some, others []netip.Addr) Expr {
	return Expr{and{anyHost(some), anyHost(others)}}
}

func anyHost(addrs []netip.Addr) node {
	var n node = not{all{}}
	for i, a := range addrs {
		var host node = prefix{netip.PrefixFrom(a, a.BitLen()), either}
		if i > 0 {
			host = or{n, host}
		}
		n = host
	}
	return n
}

// And is true of frames that both expressions are true of.
func (e Expr) And(other Expr) Expr { return Expr{and{e.n, other.n}} }

// Program compiles the expression. The program returns how many bytes of a frame are kept: size, or none.
func (e Expr) Program(size uint32) ([]bpf.RawInstruction, error) {
	c := new(code)
	accept, refuse := c.label(), c.label()
	e.n.generate(c, accept, refuse)
	c.place(accept)
	c.add(bpf.RetConstant{Val: size})
	c.place(refuse)
	c.add(bpf.RetConstant{Val: 0})
	instructions, err := c.resolve()
	if err != nil {
		return nil, err
	}
	return bpf.Assemble(instructions)
}
