// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxDepth is how deeply parentheses and nots may be nested.
const maxDepth = 50

// tokenize splits an expression into words and signs.
func tokenize(text string) []string {
	spaced := strings.NewReplacer("(", " ( ", ")", " ) ", "!", " ! ", "&&", " && ", "||", " || ").Replace(text)
	return strings.Fields(spaced)
}

// parser reads tokens from the first on.
type parser struct {
	tokens []string
	depth  int
}

// next returns the next token without taking it; empty: there is none.
func (p *parser) next() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

// take takes the next token if it is one of these, and returns it.
func (p *parser) take(these ...string) string {
	t := p.next()
	if t == "" || !slices.Contains(these, t) {
		return ""
	}
	p.tokens = p.tokens[1:]
	return t
}

// word takes the next token, whatever it is.
func (p *parser) word(what string) (string, error) {
	t := p.next()
	if t == "" {
		return "", fmt.Errorf("it ends where %s is wanted", what)
	}
	p.tokens = p.tokens[1:]
	return t, nil
}

// expression reads terms with and or or between them.
func (p *parser) expression() (node, error) {
	n, err := p.term()
	for err == nil {
		var right node
		switch p.take("and", "&&", "or", "||") {
		case "":
			return n, nil
		case "and", "&&":
			right, err = p.term()
			n = and{n, right}
		default:
			right, err = p.term()
			n = or{n, right}
		}
	}
	return nil, err
}

// term reads a primitive, its negation, or an expression in parentheses.
func (p *parser) term() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d times", maxDepth)
	}
	defer func() { p.depth-- }()
	switch {
	case p.take("not", "!") != "":
		n, err := p.term()
		return not{n}, err
	case p.take("(") != "":
		n, err := p.expression()
		if err == nil && p.take(")") == "" {
			err = errors.New("a ) is missing")
		}
		return n, err
	}
	return p.primitive()
}

// primitive reads a condition on one property.
func (p *parser) primitive() (node, error) {
	if p.take("ether") != "" {
		side := p.side()
		if p.take("host") == "" {
			return nil, errors.New("after ether host is wanted")
		}
		text, err := p.word("a MAC")
		if err != nil {
			return nil, err
		}
		mac, err := net.ParseMAC(text)
		if err != nil || len(mac) != 6 {
			return nil, fmt.Errorf("%.40q: want a MAC such as 02:00:00:00:00:01", text)
		}
		return station{[6]byte(mac), side}, nil
	}
	proto := p.take("arp", "ip", "ip6", "icmp", "icmp6", "tcp", "udp", "sctp")
	hasPorts := slices.Contains([]string{"src", "dst", "port", "portrange"}, p.next()) && transports[proto] != 0
	if proto != "" && !hasPorts {
		return protocols[proto], nil
	}
	side := p.side()
	switch kind, _ := p.word("a condition"); {
	case kind == "port" || kind == "portrange":
		return p.ports(kind, proto, side)
	case proto != "":
		return nil, fmt.Errorf("after %s %s port or portrange is wanted", proto, side)
	case kind == "host", kind == "net":
		return p.address(kind, side)
	case kind == "":
		return nil, errors.New("it ends where a condition is wanted")
	default:
		return nil, fmt.Errorf("%.40q: want host, net, port, portrange, ether, arp, ip, ip6, icmp, icmp6, tcp, udp "+
			"or sctp", kind)
	}
}

// side reads src or dst, if it is there.
func (p *parser) side() side {
	switch p.take("src", "dst") {
	case "src":
		return source
	case "dst":
		return destination
	}
	return either
}

func (p *parser) address(kind string, s side) (node, error) {
	text, err := p.word("an address")
	if err != nil {
		return nil, err
	}
	if kind == "net" {
		prefixed, err := netip.ParsePrefix(text)
		if err != nil || prefixed.Addr().Is4In6() {
			return nil, fmt.Errorf("%.40q: want a prefix such as 10.32.0.0/22", text)
		}
		return prefix{prefixed.Masked(), s}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Is4In6() || a.Zone() != "" {
		return nil, fmt.Errorf("%.40q: want an address such as 10.32.0.2", text)
	}
	return prefix{netip.PrefixFrom(a, a.BitLen()), s}, nil
}

func (p *parser) ports(kind, proto string, s side) (node, error) {
	text, err := p.word("a port")
	if err != nil {
		return nil, err
	}
	low, high := text, text
	if kind == "portrange" {
		low, high, _ = strings.Cut(text, "-")
	}
	first, err := strconv.ParseUint(low, 10, 16)
	last, err2 := strconv.ParseUint(high, 10, 16)
	if err != nil || err2 != nil || first > last {
		return nil, fmt.Errorf("%.40q: want a port such as 80, or for portrange 80-90", text)
	}
	return ports{transports[proto], uint32(first), uint32(last), s}, nil
}
