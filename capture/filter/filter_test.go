// SPDX-License-Identifier: Apache-2.0

package filter

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// Frames of the tests, all from the first MAC to the second.
var frames = map[string][]byte{
	"arp":      ether(0x0806, "0001080006040001", "020000000001", "0a200002", "000000000000", "0a200003"),
	"ping":     ipv4(1, 0, "0a200002", "0a200003", "0800"),
	"tcp":      ipv4(6, 0, "0a200002", "0a200003", port(40000), port(80)),
	"udp":      ipv4(17, 0, "0a200003", "c0000235", port(53), port(40000)),
	"fragment": ipv4(17, 0x00b9, "0a200002", "0a200003", port(53), port(53)),
	"tcp6":     ipv6(6, "fd000000000000000000000000000002", "fd000000000000000000000000000003", port(80), port(40000)),
	"icmp6":    ipv6(58, "fd000000000000000000000000000002", "fd000000000000000000000000000003", "8000"),
	"other":    ether(0x88cc, "0207"),
}

func bytesOf(hex ...string) (b []byte) {
	for _, h := range hex {
		var part []byte
		if _, err := fmt.Sscanf(h, "%x", &part); err != nil {
			panic(err)
		}
		b = append(b, part...)
	}
	return b
}

func port(n uint16) string { return fmt.Sprintf("%04x", n) }

func ether(ethertype uint16, payload ...string) []byte {
	b := bytesOf("020000000002", "020000000001")
	b = binary.BigEndian.AppendUint16(b, ethertype)
	return append(append(b, bytesOf(payload...)...), make([]byte, 40)...)
}

func ipv4(protocol, fragment uint16, src, dst string, payload ...string) []byte {
	head := fmt.Sprintf("4500003c0000%04x40%02x0000", fragment, protocol)
	return ether(0x0800, append([]string{head, src, dst}, payload...)...)
}

func ipv6(protocol uint16, src, dst string, payload ...string) []byte {
	return ether(0x86dd, append([]string{fmt.Sprintf("600000000028%02x40", protocol), src, dst}, payload...)...)
}

func TestMatch(t *testing.T) {
	every := []string{"arp", "fragment", "icmp6", "other", "ping", "tcp", "tcp6", "udp"}
	for expression, want := range map[string]string{
		"":                                     strings.Join(every, " "),
		"arp":                                  "arp",
		"!arp":                                 "fragment icmp6 other ping tcp tcp6 udp",
		"ip":                                   "fragment ping tcp udp",
		"ip6":                                  "icmp6 tcp6",
		"icmp or icmp6":                        "icmp6 ping",
		"tcp":                                  "tcp tcp6",
		"udp":                                  "fragment udp",
		"sctp":                                 "",
		"host 10.32.0.2":                       "arp fragment ping tcp",
		"src host 10.32.0.3":                   "udp",
		"dst host 10.32.0.3":                   "arp fragment ping tcp",
		"host fd00::3":                         "icmp6 tcp6",
		"src host fd00::3":                     "",
		"net 192.0.2.0/24":                     "udp",
		"src net 10.32.0.0/22":                 "arp fragment ping tcp udp",
		"net 0.0.0.0/0":                        "arp fragment ping tcp udp",
		"net fd00::/8":                         "icmp6 tcp6",
		"dst net fd00::2/128":                  "",
		"port 53":                              "udp",
		"port 80":                              "tcp tcp6",
		"tcp dst port 80":                      "tcp",
		"src port 80":                          "tcp6",
		"udp port 80":                          "",
		"portrange 50-60":                      "udp",
		"tcp src portrange 1-1000":             "tcp6",
		"ether host 02:00:00:00:00:01":         strings.Join(every, " "),
		"ether dst host 02:00:00:00:00:01":     "",
		"not (tcp or udp) and not arp":         "icmp6 other ping",
		"tcp or udp and port 53":               "udp",
		"tcp or (udp and port 53)":             "tcp tcp6 udp",
		"! ! icmp":                             "ping",
		"host 10.32.0.2 && ! tcp || port 53":   "arp fragment ping udp",
		"(host 10.32.0.2) and (not port 80)":   "arp fragment ping",
		"src host 10.32.0.3 and port 53 or ip": "fragment ping tcp udp",
	} {
		t.Run(expression, func(t *testing.T) {
			e, err := Parse(expression)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(matched(t, e), " "); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// matched returns the names of the frames that an expression is true of.
func matched(t *testing.T, e Expr) (names []string) {
	t.Helper()
	program, err := e.Program(100)
	if err != nil {
		t.Fatal(err)
	}
	vm := machine(t, program)
	for name, frame := range frames {
		n, err := vm.Run(frame)
		if err != nil || n != 0 && n != 100 {
			t.Errorf("%s: %d bytes, error %v", name, n, err)
		}
		if n > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func machine(t *testing.T, program []bpf.RawInstruction) *bpf.VM {
	t.Helper()
	instructions, ok := bpf.Disassemble(program)
	if !ok {
		t.Fatal("a program that can't be read")
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestBetween(t *testing.T) {
	a := []netip.Addr{netip.MustParseAddr("10.32.0.2"), netip.MustParseAddr("fd00::2")}
	b := []netip.Addr{netip.MustParseAddr("10.32.0.3"), netip.MustParseAddr("fd00::3")}
	notTCP, err := Parse("not tcp")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(matched(t, Between(a, b).And(notTCP)), " "); got != "arp fragment icmp6 ping" {
		t.Errorf("got %q", got)
	}
	if got := matched(t, Between(a, nil)); got != nil {
		t.Errorf("between something and nothing: %q", got)
	}
}

func TestRefused(t *testing.T) {
	for expression, want := range map[string]string{
		"host":                         "it ends where an address is wanted",
		"host web":                     `"web": want an address`,
		"host ::ffff:10.0.0.1":         "want an address",
		"net 10.32.0.0":                "want a prefix",
		"port http":                    "want a port",
		"port 65536":                   "want a port",
		"portrange 9-8":                "want a port",
		"arp or":                       "it ends where a condition is wanted",
		"(arp":                         "a ) is missing",
		"arp)":                         `")": want and, or or the end`,
		"arp arp":                      "want and, or or the end",
		"tcp src host 10.0.0.1":        "after tcp src port or portrange is wanted",
		"ether port 7":                 "after ether host is wanted",
		"ether host 02:00":             "want a MAC",
		"vlan":                         `"vlan": want host`,
		"and arp":                      `"and": want host`,
		strings.Repeat("! ", 60) + "x": "nested more than 50 times",
		strings.Repeat("x", 2000):      "want at most 1024",
	} {
		if _, err := Parse(expression); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: error %v, want %q", expression, err, want)
		}
	}
	long, err := Parse(strings.Repeat("host 10.0.0.1 or ", 50) + "arp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := long.Program(1); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a program with jumps that are too far: error %v", err)
	}
}

// TestLikeTcpdump: programs decide as those of libpcap's compiler do, on frames that are anything.
func TestLikeTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("no tcpdump here, with which its own programs could be compared")
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, expression := range []string{
		"arp", "ip", "icmp", "tcp", "sctp", "host 10.32.0.2", "src host 10.32.0.3", "net 10.32.0.0/22",
		"dst net 128.0.0.0/1", "host fd00::2", "src net fd00::/8", "dst net fd00::/65", "port 80", "tcp dst port 80",
		"portrange 50-60000", "udp src portrange 50-100", "ether host 02:00:00:00:00:01",
		"ether src host 02:00:00:00:00:02", "not arp and not port 80", "tcp or udp and port 53 or host 10.32.0.3",
		"!(host 10.32.0.2 or port 80)",
	} {
		theirs := tcpdump(t, expression)
		e, err := Parse(expression)
		if err != nil {
			t.Fatal(err)
		}
		program, err := e.Program(262144)
		if err != nil {
			t.Fatal(err)
		}
		ours := machine(t, program)
		for i := range 20000 {
			frame := mutated(random)
			a, err := ours.Run(frame)
			b, err2 := theirs.Run(frame)
			if err != nil || err2 != nil || (a > 0) != (b > 0) {
				t.Fatalf("%q, frame %d: weave %d (%v), tcpdump %d (%v): %x", expression, i, a, err, b, err2, frame)
			}
		}
	}
}

// mutated returns one of the frames with some bytes changed.
func mutated(random *rand.Rand) []byte {
	names := make([]string, 0, len(frames))
	for name := range frames {
		names = append(names, name)
	}
	slices.Sort(names)
	frame := slices.Clone(frames[names[random.IntN(len(names))]])
	for range random.IntN(4) {
		i := random.IntN(len(frame))
		if i == 20 || i == 14 { // libpcap looks into IPv6's fragments, and at options of IPv4, as these don't
			continue
		}
		frame[i] = byte(random.UintN(256))
	}
	return frame
}

// tcpdump returns the program that libpcap's compiler makes of an expression.
func tcpdump(t *testing.T, expression string) *bpf.VM {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "tcpdump", "-y", "EN10MB", "-ddd", expression).Output()
	if err != nil {
		t.Fatalf("tcpdump %q: %v", expression, err)
	}
	var program []bpf.RawInstruction
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	lines.Scan() // how many there are
	for lines.Scan() {
		var r bpf.RawInstruction
		if _, err := fmt.Sscan(lines.Text(), &r.Op, &r.Jt, &r.Jf, &r.K); err != nil {
			t.Fatal(err)
		}
		program = append(program, r)
	}
	return machine(t, program)
}

func FuzzParse(f *testing.F) {
	f.Add("tcp or (udp and not port 53)", []byte("frame"))
	f.Fuzz(func(t *testing.T, expression string, frame []byte) {
		e, err := Parse(expression)
		if err != nil {
			return
		}
		program, err := e.Program(1)
		if err != nil {
			return
		}
		if len(frame) == 0 {
			frame = []byte{0}
		}
		if _, err := machine(t, program).Run(frame); err != nil {
			t.Errorf("%q: %v", expression, err)
		}
	})
}
