// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/netstate"
)

// SizeofRuleMsg is the size in bytes of struct fib_rule_hdr, the header of a message about a rule.
const SizeofRuleMsg = 12

// ruleActions are FR_ACT_* of linux/fib_rules.h, by the names that ip-rule(8) has for them.
var ruleActions = [...]string{
	unix.FR_ACT_TO_TBL: "lookup", unix.FR_ACT_GOTO: "goto", unix.FR_ACT_NOP: "nop",
	unix.FR_ACT_BLACKHOLE: "blackhole", unix.FR_ACT_UNREACHABLE: "unreachable", unix.FR_ACT_PROHIBIT: "prohibit",
}

// decodeRule decodes an RTM_NEWRULE. It is not ok for one of another family, such as those for multicast.
func decodeRule(b []byte) (r netstate.Rule, ok bool, err error) {
	if len(b) < SizeofRuleMsg {
		return r, false, errShort
	}
	family, toBits, fromBits := b[0], int(b[1]), int(b[2])
	const tos, table, action, flags = 3, 4, 7, 8 // offsets
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return r, false, nil
	}
	r.IPv6 = family == unix.AF_INET6
	r.Table, r.Partial = int(b[table]), b[tos] != 0
	r.Inverted = native.Uint32(b[flags:])&unix.FIB_RULE_INVERT != 0
	if n := int(b[action]); n < len(ruleActions) && ruleActions[n] != "" {
		r.Action = ruleActions[n]
	} else {
		r.Action = fmt.Sprintf("action %d", n)
	}
	const none = 0xffffffff // where a prefix length is not a condition
	var from, to netip.Addr
	err = EachAttr(b[SizeofRuleMsg:], func(typ uint16, v []byte) (err error) {
		var n uint32
		switch typ {
		case unix.FRA_PRIORITY:
			n, err = number32(v)
			r.Priority = int(n)
		case unix.FRA_TABLE:
			n, err = number32(v)
			r.Table = int(n)
		case unix.FRA_FWMARK:
			r.Mark, err = number32(v)
		case unix.FRA_FWMASK:
			r.Mask, err = number32(v)
		case unix.FRA_IIFNAME:
			r.In = text(v)
		case unix.FRA_OIFNAME:
			r.Out = text(v)
		case unix.FRA_SRC:
			from, err = addr(family, v)
		case unix.FRA_DST:
			to, err = addr(family, v)
		case unix.FRA_SUPPRESS_PREFIXLEN:
			n, err = number32(v)
			r.Partial = r.Partial || n != none
		case unix.FRA_GOTO, unix.FRA_FLOW, unix.FRA_PAD, unix.FRA_PROTOCOL: // no condition
		default:
			r.Partial = true
		}
		return err
	})
	if err != nil {
		return r, false, err
	}
	if r.From, err = prefixOf(from, fromBits); err != nil {
		return r, false, err
	}
	r.To, err = prefixOf(to, toBits)
	return r, err == nil, err
}
