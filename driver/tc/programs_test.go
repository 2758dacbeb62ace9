// SPDX-License-Identifier: Apache-2.0

package tc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The parts of frames.
var (
	advertisement   = []byte{icmpRouterAdvertisement, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	neighbourAdvert = []byte{136, 0, 0, 0, 0, 0, 0, 0}
)

func ethernet(protocol uint16, rest []byte) []byte {
	frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1}, byte(protocol>>8), byte(protocol))
	return append(frame, rest...)
}

func ipv4(protocol, words byte, fragment uint16, rest []byte) []byte {
	header := make([]byte, 4*words)
	header[0], header[8], header[9] = 0x40|words, 64, protocol
	binary.BigEndian.PutUint16(header[6:], fragment)
	return ethernet(unix.ETH_P_IP, append(header, rest...))
}

func ipv6(next byte, rest ...[]byte) []byte {
	header := make([]byte, 40)
	header[0], header[6], header[7] = 0x60, next, 255
	return ethernet(unix.ETH_P_IPV6, append(header, slices.Concat(rest...)...))
}

func udp(source, destination uint16) []byte {
	header := binary.BigEndian.AppendUint16(nil, source)
	return append(binary.BigEndian.AppendUint16(header, destination), 0, 8, 0, 0)
}

// extension is an extension header of 8*(units+1) bytes; with ah, of 4*(units+2).
func extension(next, units byte, ah ...bool) []byte {
	length := 8 * (int(units) + 1)
	if len(ah) > 0 {
		length = 4 * (int(units) + 2)
	}
	header := make([]byte, length)
	header[0], header[1] = next, units
	return header
}

func fragment(next byte, offset uint16) []byte {
	header := make([]byte, 8)
	header[0] = next
	binary.BigEndian.PutUint16(header[2:], offset<<3)
	return header
}

// TestGuard runs the programs in the kernel on single frames.
func TestGuard(t *testing.T) {
	noRA, noDHCP := Port{NoRouterAdvertisements: true}, Port{NoDHCPAnswers: true}
	both := Port{NoRouterAdvertisements: true, NoDHCPAnswers: true}
	const pass, shot = -1, 2
	const icmp6 = unix.IPPROTO_ICMPV6
	ra, na := advertisement, neighbourAdvert
	options := extension(unix.IPPROTO_DSTOPTS, 0)
	tcp := make([]byte, 20)
	five := bytes.Repeat(options, 5)
	for name, tt := range map[string]struct {
		port  Port
		frame []byte
		want  int32
	}{
		"router advertisement":                 {noRA, ipv6(icmp6, ra), shot},
		"router advertisement, both":           {both, ipv6(icmp6, ra), shot},
		"router advertisement, allowed":        {noDHCP, ipv6(icmp6, ra), pass},
		"neighbour advertisement":              {both, ipv6(icmp6, na), pass},
		"behind hop-by-hop options":            {noRA, ipv6(0, extension(icmp6, 0), ra), shot},
		"behind long options":                  {noRA, ipv6(60, extension(icmp6, 7), ra), shot},
		"behind a routing header":              {noRA, ipv6(43, extension(icmp6, 2), ra), shot},
		"behind an authentication header":      {noRA, ipv6(51, extension(icmp6, 3, true), ra), shot},
		"behind a fragment header":             {noRA, ipv6(44, fragment(icmp6, 0), ra), shot},
		"behind two headers":                   {noRA, ipv6(60, options, extension(58, 1), ra), shot},
		"behind six headers":                   {noRA, ipv6(60, five, extension(58, 0), ra), shot},
		"another message behind a header":      {noRA, ipv6(60, extension(icmp6, 0), na), pass},
		"TCP behind six headers":               {noRA, ipv6(60, five, extension(6, 0), tcp), pass},
		"more headers than anybody needs":      {noRA, ipv6(60, five, options, extension(58, 0), na), shot},
		"a later fragment":                     {noRA, ipv6(44, fragment(icmp6, 100), ra), pass},
		"TCP for IPv6":                         {both, ipv6(unix.IPPROTO_TCP, tcp), pass},
		"no next header":                       {both, ipv6(59), pass},
		"answer of a DHCP server":              {noDHCP, ipv4(unix.IPPROTO_UDP, 5, 0, udp(67, 68)), shot},
		"answer of a DHCP server, both":        {both, ipv4(unix.IPPROTO_UDP, 5, 0, udp(67, 68)), shot},
		"answer of a DHCP server, allowed":     {noRA, ipv4(unix.IPPROTO_UDP, 5, 0, udp(67, 68)), pass},
		"behind IPv4 options":                  {noDHCP, ipv4(unix.IPPROTO_UDP, 15, 0, udp(67, 68)), shot},
		"the first fragment of an answer":      {noDHCP, ipv4(unix.IPPROTO_UDP, 5, 0x2000, udp(67, 68)), shot},
		"a later fragment that looks like one": {noDHCP, ipv4(unix.IPPROTO_UDP, 5, 0x2001, udp(67, 68)), pass},
		"question to a DHCP server":            {noDHCP, ipv4(unix.IPPROTO_UDP, 5, 0, udp(68, 67)), pass},
		"answer from another port":             {noDHCP, ipv4(unix.IPPROTO_UDP, 5, 0, udp(1067, 68)), shot},
		"DHCPv6 answer from another port":      {noDHCP, ipv6(unix.IPPROTO_UDP, udp(1547, 546)), shot},
		"answer to a DHCP relay":               {noDHCP, ipv4(unix.IPPROTO_UDP, 5, 0, udp(67, 67)), pass},
		"TCP with the ports of DHCP":           {noDHCP, ipv4(unix.IPPROTO_TCP, 5, 0, udp(67, 68)), pass},
		"answer of a DHCPv6 server":            {noDHCP, ipv6(unix.IPPROTO_UDP, udp(547, 546)), shot},
		"answer of a DHCPv6 server, hidden":    {both, ipv6(0, extension(unix.IPPROTO_UDP, 0), udp(547, 546)), shot},
		"answer of a DHCPv6 server, allowed":   {noRA, ipv6(unix.IPPROTO_UDP, udp(547, 546)), pass},
		"question to a DHCPv6 server":          {noDHCP, ipv6(unix.IPPROTO_UDP, udp(546, 547)), pass},
		"DNS":                                  {both, ipv4(unix.IPPROTO_UDP, 5, 0, udp(53, 40000)), pass},
		"ARP":                                  {both, ethernet(unix.ETH_P_ARP, make([]byte, 28)), pass},
		"first fragment that ends too early":   {noDHCP, ipv6(44, fragment(60, 0), extension(17, 0)), shot},
		"the same, for an advertisement":       {noRA, ipv6(44, fragment(60, 0), extension(58, 0)), shot},
		"options that are cut":                 {noRA, ipv6(44, fragment(60, 0), []byte{60, 9, 0, 0}), shot},
		"IPv4 that ends before its ports":      {noDHCP, ipv4(unix.IPPROTO_UDP, 15, 0, nil), shot},
		"a protocol of somebody's own":         {both, ethernet(0x88b5, make([]byte, 46)), pass},
	} {
		t.Run(name, func(t *testing.T) {
			if got := verdict(t, tt.port, tt.frame); got != tt.want {
				t.Errorf("verdict %d, want %d", got, tt.want)
			}
		})
	}
}

// verdict runs the program for frames that come from a container.
func verdict(t *testing.T, port Port, frame []byte) int32 {
	t.Helper()
	for len(frame) < 60 {
		frame = append(frame, 0)
	}
	spec := &ebpf.ProgramSpec{Type: ebpf.SchedCLS, Instructions: ingress(port), License: "Apache-2.0"}
	program, err := ebpf.NewProgram(spec)
	if errors.Is(err, unix.EPERM) && os.Getenv("WEAVE_TEST_ROOT") != "1" {
		t.Skipf("needs root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = program.Close() }()
	verdict, _, err := program.Test(frame)
	if err != nil {
		t.Fatal(err)
	}
	return int32(verdict)
}
