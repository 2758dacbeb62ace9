// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/child"
)

// watcherName is the argv[0] of the child process that watches. The child is this program, executed once more: so it
// regains CAP_SYS_ADMIN, which weave has given up, and which programs at tracepoints need.
const watcherName = "weave-watch-drops"

func init() {
	child.Run(watcherName, func() error { return runWatcher(os.Args[1:], os.Stdin, os.Stdout) })
}

// runWatcher watches the packets between two addresses until the input ends, and then prints what it has found.
func runWatcher(args []string, input io.Reader, output io.Writer) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments, want two addresses", len(args))
	}
	a, err := netip.ParseAddr(args[0])
	if err != nil {
		return err
	}
	b, err := netip.ParseAddr(args[1])
	if err != nil {
		return err
	}
	k, err := readKernel()
	if err != nil {
		return err
	}
	events, err := ebpf.NewMap(&ebpf.MapSpec{Name: "weave_drops", Type: ebpf.RingBuf, MaxEntries: ringSize})
	if err != nil {
		return fmt.Errorf("make a ring buffer: %w", err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "weave_drops", Type: ebpf.RawTracepoint, License: programLicense,
		Instructions: k.program(a.Unmap(), b.Unmap(), events.FD()),
	})
	if err != nil {
		return fmt.Errorf("load a program: %w", err)
	}
	point, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "kfree_skb", Program: program})
	if err != nil {
		return fmt.Errorf("attach a program to kfree_skb: %w", err)
	}
	reader, err := ringbuf.NewReader(events)
	if err != nil {
		return fmt.Errorf("read a ring buffer: %w", err)
	}
	if _, err := io.WriteString(output, started); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, input); err != nil {
		return err
	}
	if err := point.Close(); err != nil {
		return fmt.Errorf("detach a program from kfree_skb: %w", err)
	}
	drops, err := readDrops(reader, k.reasons)
	if err != nil {
		return err
	}
	return json.NewEncoder(output).Encode(drops)
}

// readDrops returns what is in a ring buffer.
func readDrops(reader *ringbuf.Reader, reasons map[uint32]string) ([]Drop, error) {
	out := []Drop{}
	reader.SetDeadline(time.Unix(1, 0)) // what is there is read nevertheless
	for {
		record, err := reader.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read a ring buffer: %w", err)
		}
		var e event
		if err := binary.Read(bytes.NewReader(record.RawSample), binary.NativeEndian, &e); err != nil {
			return nil, fmt.Errorf("read a ring buffer: %w", err)
		}
		out = append(out, e.drop(reasons))
	}
}

// event is what the program writes; its fields are at the offsets that program.go names.
type event struct {
	Reason, NetNS uint32
	EtherType     uint16 // in network byte order
	_             [6]byte
	Link          [unix.IFNAMSIZ]byte
	Header        [headerLen]byte
}

func (e event) drop(reasons map[uint32]string) Drop {
	const arpLen = 28 // for Ethernet and IPv4, RFC 826
	d := Drop{Reason: reasons[e.Reason], Protocol: "arp", Length: arpLen}
	if d.Reason == "" {
		d.Reason = strconv.FormatUint(uint64(e.Reason), 10)
	}
	switch e.Header[0] >> 4 {
	case ipv4.Version:
		d.Protocol, d.Length = protocolName(e.Header[9]), int(binary.BigEndian.Uint16(e.Header[2:]))
	case ipv6.Version:
		d.Protocol = protocolName(e.Header[6])
		d.Length = ipv6.HeaderLen + int(binary.BigEndian.Uint16(e.Header[4:]))
	}
	// A packet in a socket's queue has something else where others have their device.
	if name, _, _ := bytes.Cut(e.Link[:], []byte{0}); isLinkName(name) {
		d.Link, d.NetNS = string(name), uint64(e.NetNS)
	}
	return d
}

// isLinkName reports whether these bytes can be a name of a device: printable ones, as all names of people and programs
// are.
func isLinkName(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(b) > 0 && len(b) < unix.IFNAMSIZ
}

func protocolName(number byte) string {
	switch number {
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return "icmp"
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	}
	return strconv.Itoa(int(number))
}
