// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

var native = binary.NativeEndian

// attr returns an attribute, padded to four bytes.
func attr(typ uint16, value []byte) []byte {
	const header = 4
	b := native.AppendUint16(nil, uint16(header+len(value)))
	b = native.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}

// nest returns an attribute that consists of others.
func nest(typ uint16, attrs ...[]byte) []byte {
	var inside []byte
	for _, a := range attrs {
		inside = append(inside, a...)
	}
	return attr(typ|unix.NLA_F_NESTED, inside)
}

// text returns an attribute with a text, as nftables wants it: with a zero at the end.
func text(typ uint16, s string) []byte { return attr(typ, append([]byte(s), 0)) }

// number returns an attribute with a 32-bit number; nftables has its numbers in network byte order.
func number(typ uint16, n uint32) []byte {
	return attr(typ, binary.BigEndian.AppendUint32(nil, n))
}

// batch is a transaction: the kernel does all of it or nothing.
type batch struct {
	seq  uint32
	last int // where the last message begins
	b    []byte
}

// newBatch begins a transaction whose messages have the sequence numbers from 0 on.
func newBatch() *batch {
	t := &batch{}
	t.add(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	return t
}

// change adds a change of tables of IPv4.
func (t *batch) change(typ, flags uint16, attrs ...[]byte) {
	t.add(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, unix.NFPROTO_IPV4, 0, attrs...)
}

func (t *batch) add(typ, flags uint16, family byte, resource uint16, attrs ...[]byte) {
	t.last = len(t.b)
	t.b = native.AppendUint32(t.b, 0) // the length, see below
	t.b = native.AppendUint16(t.b, typ)
	t.b = native.AppendUint16(t.b, flags|unix.NLM_F_REQUEST)
	t.b = native.AppendUint32(t.b, t.seq)
	t.b = native.AppendUint32(t.b, 0) // port number: filled in by the kernel
	t.b = append(t.b, family, unix.NFNETLINK_V0)
	t.b = binary.BigEndian.AppendUint16(t.b, resource)
	for _, a := range attrs {
		t.b = append(t.b, a...)
	}
	native.PutUint32(t.b[t.last:], uint32(len(t.b)-t.last))
	t.seq++
}

// open returns the transaction without its end, so that the kernel checks it and does not do it, and the sequence
// number of its last change, which the kernel acknowledges.
func (t *batch) open() (message []byte, acknowledged uint32) {
	native.PutUint16(t.b[t.last+6:], native.Uint16(t.b[t.last+6:])|unix.NLM_F_ACK)
	return t.b, t.seq - 1
}

// end returns the whole transaction, and the sequence number of its last change, which the kernel acknowledges.
func (t *batch) end() (message []byte, acknowledged uint32) {
	_, acknowledged = t.open()
	t.add(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	return t.b, acknowledged
}

// changeName returns the name of the change in a transaction that has the sequence number.
func changeName(transaction []byte, seq uint32) string {
	for b := transaction; len(b) >= unix.NLMSG_HDRLEN; b = b[native.Uint32(b):] {
		if native.Uint32(b[8:]) == seq {
			return TypeName(native.Uint16(b[4:]))
		}
	}
	return "transaction"
}

// TypeName returns the name of a type of the messages that the package sends, as linux/netfilter/nf_tables.h has it.
func TypeName(typ uint16) string {
	switch typ {
	case unix.NFNL_MSG_BATCH_BEGIN:
		return "NFNL_MSG_BATCH_BEGIN"
	case unix.NFNL_MSG_BATCH_END:
		return "NFNL_MSG_BATCH_END"
	case unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE:
		return "NFT_MSG_NEWTABLE"
	case unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSET:
		return "NFT_MSG_NEWSET"
	case unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWSETELEM:
		return "NFT_MSG_NEWSETELEM"
	case unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_DELSETELEM:
		return "NFT_MSG_DELSETELEM"
	case unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWCHAIN:
		return "NFT_MSG_NEWCHAIN"
	case unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE:
		return "NFT_MSG_NEWRULE"
	}
	return fmt.Sprintf("netfilter %#x", typ)
}

// align rounds n up to the alignment of messages and attributes.
func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }
