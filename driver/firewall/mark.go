// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"
)

// Mark is a mark of packets (fwmark, SO_MARK) by which rules of the user's say what may enter networks with gateways
// from elsewhere: those in which the bits of Mask are those of Value. The zero Mark is none.
//
// No rule that accepts could say so, since an accepted packet goes on to the next table. Docker's engine takes a mark
// for the same reason (--bridge-accept-fwmark).
type Mark struct{ Value, Mask uint32 }

// ParseMark reads a mark as iptables and Docker write it: VALUE or VALUE/MASK, both numbers such as 1 or 0x1. No text
// is the zero Mark.
func ParseMark(text string) (Mark, error) {
	if text == "" {
		return Mark{}, nil
	}
	value, mask, masked := strings.Cut(text, "/")
	if !masked {
		mask = "0xffffffff"
	}
	v, err1 := strconv.ParseUint(value, 0, 32)
	m, err2 := strconv.ParseUint(mask, 0, 32)
	if err1 != nil || err2 != nil || m == 0 || v&^m != 0 || v == 0 {
		return Mark{}, fmt.Errorf("mark %q: want a number from 1 on, such as 0x1, or with the bits that matter, "+
			"0x1/0x1", text)
	}
	return Mark{uint32(v), uint32(m)}, nil
}

func (m Mark) String() string { return fmt.Sprintf("%#x/%#x", m.Value, m.Mask) }

// isMissing is the condition that a packet does not have the mark.
func (m Mark) isMissing() []expr.Any {
	if m == (Mark{}) {
		return nil
	}
	value, mask := binary.NativeEndian.AppendUint32(nil, m.Value), binary.NativeEndian.AppendUint32(nil, m.Mask)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: value},
	}
}
