// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

const ownTablePrefix = "weave-"

// ownTable is the name of the table of nftables that a state has for itself.
func ownTable(stateID string) string { return ownTablePrefix + stateID }

// ownChain is a chain of that table. Its rules work whatever other tables hold: nothing takes a dropped packet back,
// and an address that has been translated, be it into itself, is not translated again.
type ownChain struct {
	name     string
	typ      nftables.ChainType
	hook     *nftables.ChainHook
	priority nftables.ChainPriority
	rules    func(v family, s subject) [][]expr.Any // those for one subject
}

var ownChains = []ownChain{
	{"input", nftables.ChainTypeFilter, nftables.ChainHookInput, *nftables.ChainPriorityFilter - 1, keepFromHost},
	{"forward", nftables.ChainTypeFilter, nftables.ChainHookForward, *nftables.ChainPriorityFilter - 1, keepOut},
	{"prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, *nftables.ChainPriorityNATDest - 1,
		keepDestination},
	{"postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, *nftables.ChainPriorityNATSource - 1,
		translateSource},
}

// keepOut drops what would enter a network with a gateway from anywhere else, but for answers: neither other networks,
// weave's or Docker's, nor whoever uses the host as a router reach its containers.
func keepOut(v family, s subject) [][]expr.Any {
	switch {
	case s.tunnel.Port != 0:
		return s.tunnel.keepPassing(v)
	case s.sources != nil:
		return dropForged(v, s)
	case !s.routed:
		return nil
	}
	known := binary.NativeEndian.AppendUint32(nil, stateKnown)
	none := make([]byte, len(known))
	to := slices.Concat(onLink(expr.MetaKeyOIFNAME, s.links), s.accept.isMissing())
	return one(append(to, isBridged(false),
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(known)), Mask: known, Xor: none},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: none},
		&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}))
}

func one(rule []expr.Any) [][]expr.Any { return [][]expr.Any{rule} }

// dropForged drops what would be routed from a bridge and is not from its subnets: with the address of another network
// a container could have answers sent there.
func dropForged(v family, s subject) [][]expr.Any {
	e := append(onLink(expr.MetaKeyIIFNAME, s.links), isBridged(false))
	for _, subnet := range s.sources {
		if subnet.Addr().Is4() == (v == ipv4) {
			e = append(e, fromSubnet(v, subnet, expr.CmpOpNeq)...)
		}
	}
	return one(append(e, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}))
}

// fromSubnet compares the network that a packet is from with a subnet.
func fromSubnet(v family, subnet netip.Prefix, op expr.CmpOp) []expr.Any {
	offset, length := headerSource(v)
	mask := net.CIDRMask(subnet.Bits(), subnet.Addr().BitLen())
	return []expr.Any{
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length, DestRegister: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: op, Register: 1, Data: subnet.Addr().AsSlice()},
	}
}

// translateSource keeps the address that a frame inside a network is from, and gives what leaves one the host's.
func translateSource(v family, s subject) [][]expr.Any {
	if s.masquerade.IsValid() {
		return masquerade(v, s)
	}
	if s.isSpecial() {
		return nil
	}
	return keepSource(v, s)
}

// masquerade gives what comes from a bridge's subnet, and does not go back there, the address of the link that it
// leaves by. Frames inside another network, which may have the same subnet, are not meant.
func masquerade(v family, s subject) [][]expr.Any {
	if s.masquerade.Addr().Is4() != (v == ipv4) {
		return nil
	}
	link := onLink(expr.MetaKeyOIFNAME, s.links)
	link[len(link)-1].(*expr.Cmp).Op = expr.CmpOpNeq
	e := append(fromSubnet(v, s.masquerade, expr.CmpOpEq), link...)
	return one(append(e, isBridged(false), &expr.Counter{}, &expr.Masq{}))
}

// keepFromHost drops what would be delivered to the host itself: broadcasts and multicasts of a container without an
// address, for instance, which its sockets would take.
func keepFromHost(v family, s subject) [][]expr.Any {
	from := onLink(expr.MetaKeyIIFNAME, s.links)
	switch {
	case s.tunnel.Port != 0:
		return s.tunnel.keepArriving(v)
	case s.own, s.probes, s.apart && v == ipv4:
		return one(append(from, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}))
	case s.apart:
		return keepApartIPv6(from)
	}
	return nil
}

// keepApartIPv6 drops all but what a gateway needs to be found, and to find the containers: neighbour solicitations and
// advertisements. ARP, which does the same for IPv4, passes no rule here.
func keepApartIPv6(from []expr.Any) [][]expr.Any {
	const solicitation, advertisement = 135, 136 // RFC 4861
	protocol := func(op expr.CmpOp) []expr.Any {
		return []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: op, Register: 1, Data: []byte{unix.IPPROTO_ICMPV6}},
		}
	}
	drop := []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
	others := []expr.Any{
		&expr.Payload{Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1, DestRegister: 1},
		&expr.Range{Op: expr.CmpOpNeq, Register: 1, FromData: []byte{solicitation}, ToData: []byte{advertisement}},
	}
	return [][]expr.Any{
		slices.Concat(from, protocol(expr.CmpOpNeq), drop),
		slices.Concat(from, protocol(expr.CmpOpEq), others, drop),
	}
}

// keepDestination translates the address that a frame is for into itself. What comes from the user's own bridge is
// left alone, since the host may route it.
func keepDestination(v family, s subject) [][]expr.Any {
	if !s.own {
		return nil
	}
	return one(append(onLink(expr.MetaKeyIIFNAME, s.links), sameAddress(v, expr.NATTypeDestNAT)...))
}

// keepSource translates the address that a frame is from into itself. To the user's own bridge the host may route, so
// there only frames from port to port are meant.
func keepSource(v family, s subject) [][]expr.Any {
	e := onLink(expr.MetaKeyOIFNAME, s.links)
	if !s.own {
		e = append(e, isBridged(true))
	}
	return one(append(e, sameAddress(v, expr.NATTypeSourceNAT)...))
}

func sameAddress(v family, typ expr.NATType) []expr.Any {
	number := uint32(unix.NFPROTO_IPV4)
	if v == ipv6 {
		number = unix.NFPROTO_IPV6
	}
	offset, length := headerSource(v)
	if typ == expr.NATTypeDestNAT {
		offset += length
	}
	return []expr.Any{
		&expr.Counter{},
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length, DestRegister: 1},
		&expr.NAT{Type: typ, Family: number, RegAddrMin: 1},
	}
}

// headerSource returns where a packet's header has the source address, and the length of an address; the destination
// follows.
func headerSource(v family) (offset, length uint32) {
	if v == ipv6 {
		return 8, net.IPv6len
	}
	return 12, net.IPv4len
}

// ownRule is a rule of weave's own table.
type ownRule struct {
	chain   string
	exprs   []expr.Any
	subject string // whose frames it is for
	number  int    // among those of the subject in the chain
	comment string // see commentOf
}

// commentOf tells a rule from others, also from that which another version of weave writes for the same subject.
func commentOf(v family, subject string, exprs []expr.Any) string {
	hash := sha256.New()
	for _, e := range exprs {
		b, err := expr.Marshal(byte(nftFamilies[v]), e)
		if err != nil {
			b = []byte(err.Error()) // the kernel will refuse the rule
		}
		hash.Write(b)
	}
	return fmt.Sprintf("%s %.4x", subject, hash.Sum(nil))
}

// String returns what tells the subject from others.
func (s subject) String() string {
	switch {
	case s.tunnel.Port != 0:
		return s.tunnel.String()
	case s.masquerade.IsValid():
		return s.links + " " + s.masquerade.String()
	case s.sources != nil:
		// The subnets themselves may be more text than the kernel keeps with a rule, which is 255 bytes.
		return fmt.Sprintf("%s sources %.8x", s.links, sha256.Sum256([]byte(fmt.Sprint(s.sources))))
	case s.apart:
		return s.links + " apart"
	case s.accept != Mark{}:
		return s.links + " but mark " + s.accept.String()
	}
	return s.links
}

// ownRules returns what the table has to hold, in the order of its chains.
func ownRules(v family, all []subject) []ownRule {
	var rules []ownRule
	for _, c := range ownChains {
		for _, s := range all {
			for i, e := range c.rules(v, s) {
				rules = append(rules, ownRule{c.name, e, s.String(), i, commentOf(v, s.String(), e)})
			}
		}
	}
	return slices.CompactFunc(rules, func(a, b ownRule) bool {
		return a.chain == b.chain && a.subject == b.subject && a.number == b.number
	})
}

// keepOwn makes the table of this state hold what it has to, and removes those of states that are gone.
func (n *nft) keepOwn(ctx context.Context, wanted map[family][]subject, o owner) error {
	c, err := conn(ctx)
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		return fmt.Errorf("list the tables of nftables: %w", err)
	}
	for _, t := range tables {
		if state, ok := strings.CutPrefix(t.Name, ownTablePrefix); ok && o.isGone(state) {
			c.DelTable(t)
		}
	}
	for _, v := range families {
		t := &nftables.Table{Name: n.own, Family: nftFamilies[v]}
		present := isAmong(tables, t)
		rules := ownRules(v, wanted[v])
		if holds(c, t, present, rules) {
			continue
		}
		if err := replace(c, t, present, rules, hostsOf(wanted[v])); err != nil {
			return err
		}
	}
	if err := flush(c); err != nil {
		return fmt.Errorf("write the table %s of nftables: %w", n.own, err)
	}
	return nil
}

// isAmong reports whether a table is one of tables.
func isAmong(tables []*nftables.Table, t *nftables.Table) bool {
	return slices.ContainsFunc(tables, func(a *nftables.Table) bool { return a.Name == t.Name && a.Family == t.Family })
}

// holds reports whether the table has exactly these rules. It goes by their comments.
func holds(c *nftables.Conn, t *nftables.Table, present bool, wanted []ownRule) bool {
	if !present || len(wanted) == 0 {
		return !present && len(wanted) == 0
	}
	var got, want [][2]string
	for _, r := range wanted {
		want = append(want, [2]string{r.chain, r.comment})
	}
	for _, ch := range ownChains {
		if !slices.ContainsFunc(wanted, ch.has) {
			continue
		}
		rules, err := c.GetRules(t, &nftables.Chain{Name: ch.name})
		if err != nil {
			return false // somebody has removed the chain
		}
		for _, r := range rules {
			comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
			got = append(got, [2]string{ch.name, comment})
		}
	}
	return slices.Equal(got, want)
}

// has reports whether a rule is one of the chain's.
func (c ownChain) has(r ownRule) bool { return r.chain == c.name }

// replace replaces the table as a whole, in one transaction, or removes it if there are no rules. hosts are the
// elements of its set. A chain without rules is left out: one that translates would have the kernel track all
// connections.
func replace(c *nftables.Conn, t *nftables.Table, present bool, rules []ownRule, hosts []netip.Addr) error {
	if present {
		c.DelTable(t)
	}
	if len(rules) == 0 {
		return nil
	}
	c.AddTable(t)
	if err := addHosts(c, t, hosts); err != nil {
		return err
	}
	for _, ch := range ownChains {
		if !slices.ContainsFunc(rules, ch.has) {
			continue
		}
		of := c.AddChain(&nftables.Chain{
			Table: t, Name: ch.name, Type: ch.typ, Hooknum: ch.hook, Priority: &ch.priority,
		})
		for _, r := range rules {
			if ch.has(r) {
				comment := userdata.AppendString(nil, userdata.TypeComment, r.comment)
				c.AddRule(&nftables.Rule{Table: t, Chain: of, Exprs: r.exprs, UserData: comment})
			}
		}
	}
	return nil
}
