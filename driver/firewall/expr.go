// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// unclear stands for a part of a rule that matters to no decision of weave's.
const unclear = "?"

// listing writes a rule of nftables as iptables -S would list it, with a comment of nft's last before the target.
func listing(r *nftables.Rule) []string {
	var args []string
	var next field                   // what the next comparison compares
	constants := map[uint32][]byte{} // by register
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter:
		case *expr.Meta:
			next = metaFields[e.Key]
			if e.SourceRegister {
				args = append(args, unclear) // it sets something
			}
		case *expr.Payload:
			if next = headerField(e); next.option == "" {
				args = append(args, unclear)
			}
		case *expr.Ct:
			if next = connectionField(e); next.option == "" {
				args = append(args, unclear)
			}
		case *expr.Bitwise:
			if next.mask = e.Mask; next.option == "" || !isZero(e.Xor) {
				next = field{}
				args = append(args, unclear)
			}
		case *expr.Cmp:
			args = append(args, next.compare(e)...)
			next = field{}
		case *expr.Lookup:
			args = append(args, comparison(next.option, e.Invert, unclear)...)
			next = field{}
		case *expr.NAT:
			args = append(args, translation(e, constants)...)
		case *expr.Masq:
			args = append(args, "-j", "MASQUERADE")
		case *expr.Redir:
			args = append(args, "-j", "REDIRECT")
		case *expr.Match:
			args = append(args, matchArgs(e)...)
		case *expr.Verdict:
			args = append(args, verdict(e)...)
		case *expr.Target:
			args = append(args, "-j", e.Name)
		case *expr.Reject:
			args = append(args, "-j", "REJECT")
		case *expr.Immediate:
			constants[e.Register] = e.Data // which does nothing by itself
		default:
			next = field{}
			args = append(args, unclear)
		}
	}
	if comment, ok := userdata.GetString(r.UserData, userdata.TypeComment); ok {
		target := len(args)
		for i, a := range args {
			if a == "-j" || a == "-g" {
				target = i
			}
		}
		args = slices.Insert(args, target, "-m", "comment", "--comment", comment)
	}
	return args
}

// translation returns the target of a rule that translates addresses, and to what if that is an address of its own.
func translation(e *expr.NAT, constants map[uint32][]byte) []string {
	target, option := "DNAT", "--to-destination"
	if e.Type == expr.NATTypeSourceNAT {
		target, option = "SNAT", "--to-source"
	}
	to := ""
	if address, ok := netip.AddrFromSlice(constants[e.RegAddrMin]); ok {
		to = address.String()
	}
	if port := constants[e.RegProtoMin]; len(port) == 2 {
		to += ":" + portNumber(port)
	}
	if to == "" {
		return []string{"-j", target}
	}
	return []string{"-j", target, option, to}
}

func isZero(b []byte) bool { return !slices.ContainsFunc(b, func(b byte) bool { return b != 0 }) }

func comparison(loaded string, negated bool, value string) []string {
	switch {
	case loaded == "":
		return []string{unclear}
	case negated:
		return []string{"!", loaded, value}
	}
	return []string{loaded, value}
}

func verdict(v *expr.Verdict) []string {
	switch v.Kind {
	case expr.VerdictAccept:
		return []string{"-j", "ACCEPT"}
	case expr.VerdictDrop:
		return []string{"-j", "DROP"}
	case expr.VerdictJump:
		return []string{"-j", v.Chain}
	case expr.VerdictReturn:
		return []string{"-j", "RETURN"}
	case expr.VerdictGoto:
		return []string{"-g", v.Chain}
	}
	return []string{"-j", unclear}
}

func matchArgs(m *expr.Match) []string {
	switch info := m.Info.(type) {
	case *xt.Comment:
		return []string{"-m", m.Name, "--comment", string(*info)}
	case *xt.ConntrackMtinfo3:
		for s, args := range stateArgs {
			if want := s.match(); info.StateMask == want.StateMask && info.MatchFlags == want.MatchFlags &&
				info.InvertFlags == want.InvertFlags {
				return args
			}
		}
	case *xt.Unknown:
		if m.Name == "physdev" && bytes.Equal(*info, physdevIsBridged()) {
			return []string{"-m", m.Name, "--physdev-is-bridged"}
		}
	}
	return []string{"-m", m.Name, unclear}
}

// exprs returns the rule for nftables. In a table of iptables it is such that iptables lists it as one of its own, so
// comment and physdev are iptables' matches; elsewhere the comment is the caller's to add as nft does, and there is no
// match for physdev.
func (r rule) exprs(iptables bool) []expr.Any {
	var e []expr.Any
	if r.in != "" {
		e = append(e, onLink(expr.MetaKeyIIFNAME, r.in)...)
	}
	if r.out != "" {
		e = append(e, onLink(expr.MetaKeyOIFNAME, r.out)...)
	}
	if r.bridged {
		e = append(e, isBridged(true))
	}
	if r.state != anyState {
		e = append(e, &expr.Match{Name: "conntrack", Rev: 3, Info: r.state.match()})
	}
	if iptables {
		comment := xt.Comment(r.comment)
		e = append(e, &expr.Match{Name: "comment", Info: &comment})
	}
	verdict := &expr.Verdict{Kind: expr.VerdictAccept}
	if r.jump != "" {
		verdict = &expr.Verdict{Kind: expr.VerdictJump, Chain: r.jump}
	}
	return append(e, &expr.Counter{}, verdict)
}

// Bits of linux/netfilter/xt_conntrack.h.
const (
	conntrackState = 1 << 0      // XT_CONNTRACK_STATE
	stateKnown     = 1<<1 | 1<<2 // established, related: bits of linux/netfilter/nf_conntrack_common.h
	stateDNAT      = 1 << 7      // XT_CONNTRACK_STATE_DNAT
)

// match returns the condition as iptables writes it.
func (s state) match() *xt.ConntrackMtinfo3 {
	m := &xt.ConntrackMtinfo3{}
	m.MatchFlags, m.StateMask = conntrackState, stateKnown
	if s == asWritten {
		m.StateMask, m.InvertFlags = stateDNAT, conntrackState
	}
	return m
}

// onLink matches the name of the link that a packet comes from or goes to. Names end with a zero byte; without it the
// beginning is compared.
func onLink(key expr.MetaKey, links string) []expr.Any {
	data, prefix := strings.CutSuffix(links, "+")
	if !prefix {
		data += "\x00"
	}
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(data)},
	}
}

// linkName is the inverse of onLink.
func linkName(data []byte) string {
	name, zero := bytes.CutSuffix(data, []byte{0})
	if !zero {
		return string(name) + "+"
	}
	return string(bytes.TrimRight(name, "\x00"))
}

// isBridged matches what a bridge sends out through another port than it came by, as -m physdev --physdev-is-bridged,
// or all else.
func isBridged(yes bool) expr.Any {
	info := xt.Unknown(physdevIsBridged())
	if !yes {
		info[physdevInvert] = info[physdevBitmask]
	}
	return &expr.Match{Name: "physdev", Info: &info}
}

// Where a struct xt_physdev_info has its bytes invert and bitmask.
const (
	physdevInvert  = 4 * unix.IFNAMSIZ
	physdevBitmask = physdevInvert + 1
)

// physdevIsBridged is a struct xt_physdev_info of the kernel (linux/netfilter/xt_physdev.h): four arrays of the length
// of a link's name, then the bytes invert and bitmask, aligned to eight bytes.
func physdevIsBridged() []byte {
	const size, bridged = 72, 1 << 2 // XT_PHYSDEV_OP_BRIDGED
	info := make([]byte, size)
	info[physdevBitmask] = bridged
	return info
}
