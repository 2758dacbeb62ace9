// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Names of programs; those at the ingress of a port are named by ingressProgram.
const (
	popProgram  = "pop"
	dropProgram = "drop"
)

// ingressProgram returns the name of the program for the frames that come from a container; empty if none is needed.
func ingressProgram(port Port) string {
	name := ""
	for _, part := range []struct {
		wanted bool
		name   string
	}{{port.Tag, "tag"}, {port.NoRouterAdvertisements, "no-ra"}, {port.NoDHCPAnswers, "no-dhcp"}} {
		if part.wanted && name != "" {
			name += ","
		}
		if part.wanted {
			name += part.name
		}
	}
	return name
}

// programs returns the instructions of all programs by their names.
func programs() map[string]asm.Instructions {
	out := map[string]asm.Instructions{popProgram: pop(), dropProgram: drop()}
	for bits := range 8 {
		port := Port{Tag: bits&1 != 0, NoRouterAdvertisements: bits&2 != 0, NoDHCPAnswers: bits&4 != 0}
		if port != (Port{}) {
			out[ingressProgram(port)] = ingress(port)
		}
	}
	return out
}

// What a program tells tc, of linux/pkt_cls.h: nothing, so that the filters after it are asked; or to drop the frame.
const (
	actUnspec = -1 // TC_ACT_UNSPEC
	actShot   = 2  // TC_ACT_SHOT
)

// Offsets in struct __sk_buff of linux/bpf.h. The protocol is in network byte order.
const (
	skbLen         = 0
	skbProtocol    = 16
	skbVLANPresent = 20
	skbVLANTCI     = 24
)

// Offsets in a frame. A VLAN tag is not part of the frame's bytes here: the kernel keeps the outermost one beside it.
const (
	offsetIP         = 14
	offsetIPv4Frag   = offsetIP + 6
	offsetIPv4Proto  = offsetIP + 9
	offsetIPv6Next   = offsetIP + 6
	offsetIPv6Header = offsetIP + 40 // of the first header after the fixed one
)

// Numbers of protocols and messages.
const (
	icmpRouterAdvertisement = 134 // RFC 4861
	dhcpClient              = 68
	dhcp6Client             = 546
	vlanIDMask              = 0x0fff
	fragmentOffsetMask      = 0x1fff
	fragmentOffsetMask6     = 0xfff8
)

// maxHeaders is how many extension headers of an IPv6 packet are followed. A packet with more of them is dropped, as
// RFC 7113 asks of a guard that can't find what it looks for.
const maxHeaders = 6

// drop is the program that drops every frame.
func drop() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, actShot), asm.Return()}
}

// pop is the program that removes a priority tag.
func pop() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, skbVLANPresent, asm.Word),
		asm.JEq.Imm(asm.R2, 0, "end"),
		asm.LoadMem(asm.R2, asm.R1, skbVLANTCI, asm.Word),
		asm.JNE.Imm(asm.R2, 0, "end"),
		asm.FnSkbVlanPop.Call(),
		asm.Mov.Imm(asm.R0, actUnspec).WithSymbol("end"),
		asm.Return(),
	}
}

// ingress is the program for frames that come from a container. R6 holds the context, which the load instructions
// expect there; R7 the offset of the header that is looked at, R8 its protocol number.
func ingress(port Port) asm.Instructions {
	code := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	if port.NoRouterAdvertisements || port.NoDHCPAnswers {
		code = append(code, guard(port)...)
	}
	tag := asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, int32(networkOrder(unix.ETH_P_8021Q))),
		asm.Mov.Imm(asm.R3, 0), // priority 0, VLAN id 0
		asm.FnSkbVlanPush.Call(),
	}
	pass := asm.Instructions{}
	if port.Tag {
		pass = append(pass, tag...)
	}
	pass = append(pass, asm.Mov.Imm(asm.R0, actUnspec), asm.Return())
	pass[0] = pass[0].WithSymbol("pass")
	code = append(code, pass...)
	if port.NoRouterAdvertisements || port.NoDHCPAnswers {
		code = append(code, asm.Mov.Imm(asm.R0, actShot).WithSymbol("shot"), asm.Return())
	}
	return code
}

// readAt loads a part of the frame into R0. A frame that ends before is shot: a first fragment could end before the
// header that is looked for, which then is in a later one (RFC 7112). A load beyond the end would let it pass.
func readAt(offset int32, size asm.Size) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R6, skbLen, asm.Word),
		asm.JLT.Imm(asm.R2, offset+int32(size.Sizeof()), "shot"),
		asm.LoadAbs(offset, size),
	}
}

// readBehind is readAt for what is so many bytes behind R7.
func readBehind(offset int32, size asm.Size) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R6, skbLen, asm.Word),
		asm.Mov.Reg(asm.R3, asm.R7),
		asm.Add.Imm(asm.R3, offset+int32(size.Sizeof())),
		asm.JLT.Reg(asm.R2, asm.R3, "shot"),
		asm.LoadInd(asm.R0, asm.R7, offset, size),
	}
}

// labelled gives the first of the instructions a label.
func labelled(label string, code asm.Instructions) asm.Instructions {
	code[0] = code[0].WithSymbol(label)
	return code
}

// guard jumps to shot for what the port may not send, and to pass for all else.
func guard(port Port) asm.Instructions {
	code := asm.Instructions{
		asm.LoadMem(asm.R2, asm.R6, skbProtocol, asm.Word),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.JEq.Imm(asm.R2, unix.ETH_P_IPV6, "ipv6"),
		asm.JEq.Imm(asm.R2, unix.ETH_P_IP, "ipv4"),
		asm.JEq.Imm(asm.R2, unix.ETH_P_8021Q, "tagged"),
		asm.JEq.Imm(asm.R2, unix.ETH_P_8021AD, "tagged"),
		asm.Ja.Label("pass"),

		// A tag within a tag. Linux takes a tag with id 0 off and reads on, so there could be anything behind it.
		// Nobody needs such a frame.
		asm.LoadMem(asm.R2, asm.R6, skbVLANTCI, asm.Word).WithSymbol("tagged"),
		asm.And.Imm(asm.R2, vlanIDMask),
		asm.JEq.Imm(asm.R2, 0, "shot"),
	}
	code = append(code, readAt(offsetIP, asm.Half)...) // the inner tag
	code = append(code,
		asm.And.Imm(asm.R0, vlanIDMask),
		asm.JEq.Imm(asm.R0, 0, "shot"),
		asm.Ja.Label("pass"),
	)
	code = append(code, guardIPv4(port)...)
	return append(code, guardIPv6(port)...)
}

func guardIPv4(port Port) asm.Instructions {
	if !port.NoDHCPAnswers {
		return asm.Instructions{asm.Ja.Label("pass").WithSymbol("ipv4")}
	}
	code := labelled("ipv4", readAt(offsetIPv4Proto, asm.Byte))
	code = append(code, asm.JNE.Imm(asm.R0, unix.IPPROTO_UDP, "pass"))
	code = append(code, readAt(offsetIPv4Frag, asm.Half)...)
	code = append(code,
		asm.And.Imm(asm.R0, fragmentOffsetMask),
		asm.JNE.Imm(asm.R0, 0, "pass"), // a later fragment, without the first one's ports
	)
	code = append(code, readAt(offsetIP, asm.Byte)...)
	code = append(code,
		asm.And.Imm(asm.R0, 0x0f), // length of the header, in words of 4 bytes
		asm.LSh.Imm(asm.R0, 2),
		asm.Mov.Reg(asm.R7, asm.R0),
		asm.Add.Imm(asm.R7, offsetIP),
	)
	return append(code, shootUDP(dhcpClient)...)
}

// shootUDP jumps to shot if the UDP header at R7 has this destination port, else to pass. The source port may be any: a
// client takes an answer whatever it is.
func shootUDP(destination int32) asm.Instructions {
	return append(readBehind(2, asm.Half),
		asm.JEq.Imm(asm.R0, destination, "shot"),
		asm.Ja.Label("pass"),
	)
}

// guardIPv6 follows the extension headers, behind which a message could hide.
func guardIPv6(port Port) asm.Instructions {
	code := append(labelled("ipv6", readAt(offsetIPv6Next, asm.Byte)),
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.Mov.Imm(asm.R7, offsetIPv6Header),
	)
	for i := range maxHeaders {
		code = append(code, nextHeader(fmt.Sprintf("%d", i))...)
	}
	code = append(code,
		asm.JEq.Imm(asm.R8, unix.IPPROTO_ICMPV6, "icmpv6"),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_UDP, "udpv6"),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_TCP, "pass"),
		asm.Ja.Label("shot"),
	)
	if port.NoRouterAdvertisements {
		code = append(code, labelled("icmpv6", readBehind(0, asm.Byte))...)
		code = append(code,
			asm.JEq.Imm(asm.R0, icmpRouterAdvertisement, "shot"),
			asm.Ja.Label("pass"),
		)
	} else {
		code = append(code, asm.Ja.Label("pass").WithSymbol("icmpv6"))
	}
	if !port.NoDHCPAnswers {
		return append(code, asm.Ja.Label("pass").WithSymbol("udpv6"))
	}
	return append(code, labelled("udpv6", shootUDP(dhcp6Client))...)
}

// nextHeader jumps to the check of what is in R8 if that can't be an extension header, and otherwise moves R7 and R8 on
// by one. Labels in it end with n.
func nextHeader(n string) asm.Instructions {
	code := asm.Instructions{
		asm.JEq.Imm(asm.R8, unix.IPPROTO_ICMPV6, "icmpv6"),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_UDP, "udpv6"),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_HOPOPTS, "options"+n),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_ROUTING, "options"+n),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_DSTOPTS, "options"+n),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_MH, "options"+n),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_FRAGMENT, "fragment"+n),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_AH, "authentication"+n),
		asm.Ja.Label("pass"),
	}
	// A later fragment has none of the headers that are looked for. Linux takes no router advertisement that comes in
	// fragments, not even in one (RFC 6980).
	code = append(code, labelled("fragment"+n, readBehind(2, asm.Half))...)
	code = append(code,
		asm.And.Imm(asm.R0, fragmentOffsetMask6),
		asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R9, 8),
		asm.Ja.Label("move"+n),
	)
	// RFC 4302: in words of 4 bytes, without the first two.
	code = append(code, labelled("authentication"+n, readBehind(1, asm.Byte))...)
	code = append(code,
		asm.Add.Imm(asm.R0, 2),
		asm.LSh.Imm(asm.R0, 2),
		asm.Mov.Reg(asm.R9, asm.R0),
		asm.Ja.Label("move"+n),
	)
	// RFC 8200: in words of 8 bytes, without the first one.
	code = append(code, labelled("options"+n, readBehind(1, asm.Byte))...)
	code = append(code,
		asm.Add.Imm(asm.R0, 1),
		asm.LSh.Imm(asm.R0, 3),
		asm.Mov.Reg(asm.R9, asm.R0),
	)
	code = append(code, labelled("move"+n, readBehind(0, asm.Byte))...)
	return append(code,
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.Add.Reg(asm.R7, asm.R9),
	)
}

// networkOrder returns a number as the kernel has it in memory in network byte order.
func networkOrder(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// digest returns a digest of a program's instructions.
func digest(instructions asm.Instructions) string {
	var code bytes.Buffer
	if err := instructions.Marshal(&code, binary.LittleEndian); err != nil {
		panic(fmt.Sprintf("the instructions of a tc program: %v", err)) // a defect: they are constant
	}
	sum := sha256.Sum256(code.Bytes())
	return hex.EncodeToString(sum[:4])
}
