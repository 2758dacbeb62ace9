// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// programLicense is what the kernel wants of a program that reads its memory. The instructions that this file makes are
// offered under GPL-2.0, too.
const programLicense = "GPL"

// ringSize is how many bytes of drops are kept until they are read: some 700 drops. Further ones are not told.
const ringSize = 1 << 16

// headerLen is how much of a packet is read: an IPv6 header, which holds more than one of IPv4 or of ARP.
const headerLen = 40

// Offsets of the event from the frame pointer, and of the scratch space before it.
const (
	eventLen       = 4 + 4 + 8 + unix.IFNAMSIZ + headerLen
	eventAt        = -eventLen
	eventReason    = eventAt
	eventNamespace = eventAt + 4
	eventEtherType = eventAt + 8 // and padding
	eventLink      = eventAt + 16
	eventHeader    = eventLink + unix.IFNAMSIZ
	scratch        = eventAt - 8 // a pointer, or a number, that was just read
)

// Offsets of addresses in headers.
const (
	ipv4Source, ipv4Destination = 12, 16
	ipv6Source, ipv6Destination = 8, 24
	arpSender, arpTarget        = 14, 24 // of ARP for Ethernet and IPv4, RFC 826
)

// program returns the instructions that write an event for each dropped packet from a to b or from b to a.
//
// R6 is the packet (struct sk_buff), R7 a pointer into it, R0 to R5 come and go.
func (k kernel) program(a, b netip.Addr, ring int) asm.Instructions {
	p := asm.Instructions{
		// The arguments of kfree_skb: the packet, the place in the kernel, the reason.
		asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord),
		asm.LoadMem(asm.R2, asm.R1, 16, asm.DWord),
		asm.StoreMem(asm.RFP, eventReason, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.StoreMem(asm.RFP, eventEtherType, asm.R2, asm.DWord),
	}
	// The header: skb->head + skb->network_header.
	p = append(p, read(eventEtherType, asm.R6, k.protocol, 2)...)
	p = append(p, read(scratch, asm.R6, k.head, 8)...)
	p = append(p, asm.LoadMem(asm.R7, asm.RFP, scratch, asm.DWord))
	p = append(p, read(scratch, asm.R6, k.networkHeader, 2)...)
	p = append(p,
		asm.LoadMem(asm.R2, asm.RFP, scratch, asm.Half),
		asm.Add.Reg(asm.R7, asm.R2),
	)
	p = append(p, read(eventHeader, asm.R7, 0, headerLen)...)
	p = append(p, asm.JNE.Imm(asm.R0, 0, "exit")) // no such memory: it had no network header
	p = append(p, match(a, b)...)
	// The device: skb->dev, its name and skb->dev->nd_net.net->ns.inum.
	p = append(p, read(scratch, asm.R6, k.device, 8)...)
	p = append(p, asm.LoadMem(asm.R7, asm.RFP, scratch, asm.DWord))
	p = append(p, read(eventLink, asm.R7, k.deviceName, unix.IFNAMSIZ)...)
	p = append(p, read(scratch, asm.R7, k.deviceNet, 8)...)
	p = append(p, asm.LoadMem(asm.R7, asm.RFP, scratch, asm.DWord))
	p = append(p, read(eventNamespace, asm.R7, k.netNumber, 4)...)
	return append(p,
		asm.LoadMapPtr(asm.R1, ring),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, eventAt),
		asm.Mov.Imm(asm.R3, eventLen),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("exit"),
		asm.Return(),
	)
}

// read returns the instructions that read size bytes at an offset from where a register points to, into the stack.
// Where they can't be read, R0 is not 0 and the bytes are zeros.
func read(to int32, from asm.Register, offset uint32, size int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, to),
		asm.Mov.Imm(asm.R2, size),
		asm.Mov.Reg(asm.R3, from),
		asm.Add.Imm(asm.R3, int32(offset)),
		asm.FnProbeReadKernel.Call(),
	}
}

// match returns the instructions that go on at found if the header is of a packet between a and b, and at exit if not.
func match(a, b netip.Addr) asm.Instructions {
	type pair struct {
		etherType           uint16
		source, destination int16
		from, to            netip.Addr
	}
	pairs := []pair{
		{unix.ETH_P_IPV6, ipv6Source, ipv6Destination, a, b}, {unix.ETH_P_IPV6, ipv6Source, ipv6Destination, b, a},
	}
	if a.Is4() {
		pairs = []pair{
			{unix.ETH_P_IP, ipv4Source, ipv4Destination, a, b}, {unix.ETH_P_IP, ipv4Source, ipv4Destination, b, a},
			{unix.ETH_P_ARP, arpSender, arpTarget, a, b}, {unix.ETH_P_ARP, arpSender, arpTarget, b, a},
		}
	}
	var p asm.Instructions
	for i, pair := range pairs {
		next := fmt.Sprintf("after-%d", i)
		p = append(p,
			asm.LoadMem(asm.R2, asm.RFP, eventEtherType, asm.Half),
			asm.HostTo(asm.BE, asm.R2, asm.Half),
			asm.JNE.Imm(asm.R2, int32(pair.etherType), next),
		)
		p = append(p, equal(pair.source, pair.from, next)...)
		p = append(p, equal(pair.destination, pair.to, next)...)
		p = append(p, asm.Ja.Label("found"), asm.Mov.Imm(asm.R0, 0).WithSymbol(next))
	}
	return append(p, asm.Ja.Label("exit"), asm.Mov.Imm(asm.R0, 0).WithSymbol("found"))
}

// equal returns the instructions that go to a label if the header does not hold an address at an offset.
func equal(offset int16, address netip.Addr, otherwise string) asm.Instructions {
	var p asm.Instructions
	for i, b := range address.AsSlice() {
		p = append(p,
			asm.LoadMem(asm.R2, asm.RFP, eventHeader+offset+int16(i), asm.Byte),
			asm.JNE.Imm(asm.R2, int32(b), otherwise),
		)
	}
	return p
}
