// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const table = "weave-names"

const (
	typeIPv4    = 7 // nft's own number for the type of an address of IPv4
	priorityRaw = 1<<32 - 300
	register    = unix.NFT_REG_1

	offsetSource      = 12 // in the header of IPv4, bytes
	offsetDestination = 16
	offsetFromPort    = 0 // in the headers of UDP and TCP
	offsetToPort      = 2
	checksumUDP       = 6
	checksumTCP       = 16
)

// question is the rule for a packet to Docker's resolver: unless it is weave's own, it goes to weave's port.
//
//	meta l4proto PROTOCOL ip daddr @alive th dport 53 meta mark != MARK th dport set PORT notrack
func question(protocol byte, checksum uint32, port uint16) [][]byte {
	return [][]byte{
		meta(unix.NFT_META_L4PROTO), compare(unix.NFT_CMP_EQ, []byte{protocol}),
		load(unix.NFT_PAYLOAD_NETWORK_HEADER, offsetDestination, 4), inAlive(),
		load(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offsetToPort, 2), compare(unix.NFT_CMP_EQ, portBytes(resolverPort)),
		meta(unix.NFT_META_MARK), compare(unix.NFT_CMP_NEQ, native.AppendUint32(nil, Mark)),
		immediate(portBytes(port)), store(offsetToPort, checksum), expression("notrack"),
	}
}

// answer is the rule for a packet from weave's port: it seems to come from Docker's resolver.
//
//	meta l4proto PROTOCOL ip saddr 127.0.0.11 th sport PORT th sport set 53 notrack
func answer(protocol byte, checksum uint32, port uint16) [][]byte {
	return [][]byte{
		meta(unix.NFT_META_L4PROTO), compare(unix.NFT_CMP_EQ, []byte{protocol}),
		load(unix.NFT_PAYLOAD_NETWORK_HEADER, offsetSource, 4), compare(unix.NFT_CMP_EQ, Resolver.AsSlice()),
		load(unix.NFT_PAYLOAD_TRANSPORT_HEADER, offsetFromPort, 2), compare(unix.NFT_CMP_EQ, portBytes(port)),
		immediate(portBytes(resolverPort)), store(offsetFromPort, checksum), expression("notrack"),
	}
}

func addRule(t *batch, expressions ...[]byte) {
	t.change(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, text(unix.NFTA_RULE_TABLE, table),
		text(unix.NFTA_RULE_CHAIN, chain), nest(unix.NFTA_RULE_EXPRESSIONS, expressions...))
}

// expression returns one element of a rule.
func expression(name string, data ...[]byte) []byte {
	return nest(unix.NFTA_LIST_ELEM, text(unix.NFTA_EXPR_NAME, name), nest(unix.NFTA_EXPR_DATA, data...))
}

func meta(key uint32) []byte {
	return expression("meta", number(unix.NFTA_META_KEY, key), number(unix.NFTA_META_DREG, register))
}

func compare(op uint32, value []byte) []byte {
	return expression("cmp", number(unix.NFTA_CMP_SREG, register), number(unix.NFTA_CMP_OP, op),
		nest(unix.NFTA_CMP_DATA, attr(unix.NFTA_DATA_VALUE, value)))
}

func load(header, offset, size uint32) []byte {
	return expression("payload", number(unix.NFTA_PAYLOAD_DREG, register), number(unix.NFTA_PAYLOAD_BASE, header),
		number(unix.NFTA_PAYLOAD_OFFSET, offset), number(unix.NFTA_PAYLOAD_LEN, size))
}

// store writes a port into the header of UDP or TCP, which has its checksum at that offset.
func store(offset, checksum uint32) []byte {
	return expression("payload", number(unix.NFTA_PAYLOAD_SREG, register),
		number(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_TRANSPORT_HEADER), number(unix.NFTA_PAYLOAD_OFFSET, offset),
		number(unix.NFTA_PAYLOAD_LEN, 2), number(unix.NFTA_PAYLOAD_CSUM_TYPE, unix.NFT_PAYLOAD_CSUM_INET),
		number(unix.NFTA_PAYLOAD_CSUM_OFFSET, checksum))
}

func inAlive() []byte {
	return expression("lookup", text(unix.NFTA_LOOKUP_SET, aliveSet), number(unix.NFTA_LOOKUP_SREG, register),
		number(unix.NFTA_LOOKUP_SET_ID, 1))
}

func immediate(value []byte) []byte {
	return expression("immediate", number(unix.NFTA_IMMEDIATE_DREG, register),
		nest(unix.NFTA_IMMEDIATE_DATA, attr(unix.NFTA_DATA_VALUE, value)))
}

func portBytes(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) }
