// SPDX-License-Identifier: Apache-2.0

package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/capture/filter"
)

// Open opens a packet socket of the calling thread's namespace for Run.
func Open() (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	return fd, nil
}

// reader reads the frames of one link.
type reader struct {
	name string
	file *os.File
	raw  syscall.RawConn
}

// begin has a socket hear the frames of a link that a program lets by.
func begin(socket *os.File, l Link, program []bpf.RawInstruction) (*reader, error) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("packet socket of %s: %w", l.Name, err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_AUXDATA, 1),
			attach(int(fd), l.Index, program))
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("capture on %s: %w", l.Name, err)
	}
	return &reader{l.Name, socket, raw}, nil
}

// attach has a socket hear the frames of a link that a program lets by.
func attach(fd, link int, program []bpf.RawInstruction) error {
	filters := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filters[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
	return errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(filters)), Filter: &filters[0]}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link}))
}

// Hear has the link's socket keep the beginnings, of so many bytes, of the frames that the filter is true of.
func (l Link) Hear(e filter.Expr, size uint32) error {
	program, err := e.Program(size)
	if err != nil {
		return err
	}
	if err := attach(l.Socket, l.Index, program); err != nil {
		return fmt.Errorf("listen on %s: %w", l.Name, err)
	}
	return nil
}

// maxHeard is how many frames Heard returns at most: more than a socket keeps, so that somebody who sends frames faster
// than they are read does not keep it reading.
const maxHeard = 4096

// Heard returns what the link's socket has kept since Hear, without waiting. VLAN tags are not in it.
func (l Link) Heard() (frames [][]byte, err error) {
	buf := make([]byte, SnapLength)
	for len(frames) < maxHeard {
		n, _, err := unix.Recvfrom(l.Socket, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return frames, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return frames, fmt.Errorf("listen on %s: %w", l.Name, err)
		default:
			frames = append(frames, append([]byte(nil), buf[:n]...))
		}
	}
	return frames, nil
}

// read sends what the link's socket hears to frames, until ctx ends or the link is gone.
func (r *reader) read(ctx context.Context, index int, frames chan<- frame) error {
	defer context.AfterFunc(ctx, func() { _ = r.file.SetReadDeadline(time.Unix(1, 0)) })()
	buf, control := make([]byte, SnapLength), make([]byte, 256)
	for {
		f, err := r.next(buf, control)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("capture on %s: %w", r.name, err)
		}
		f.link = index
		select {
		case <-ctx.Done():
			return nil
		case frames <- f:
		}
	}
}

// next waits for the next frame.
func (r *reader) next(buf, control []byte) (f frame, err error) {
	var n, controlled int
	var failed error
	err = r.raw.Read(func(fd uintptr) bool {
		n, controlled, _, _, failed = unix.Recvmsg(int(fd), buf, control, unix.MSG_TRUNC)
		return !errors.Is(failed, unix.EAGAIN)
	})
	if err := errors.Join(err, failed); err != nil {
		return f, err
	}
	f = frame{data: append([]byte(nil), buf[:min(n, len(buf))]...), size: n, time: time.Now()}
	messages, err := unix.ParseSocketControlMessage(control[:controlled])
	if err != nil {
		return f, err
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16:
			f.time = time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		case m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA:
			f.tag(m.Data)
		}
	}
	return f, nil
}

// tag puts back the VLAN tag that the kernel has taken out of the frame, as a struct tpacket_auxdata says.
func (f *frame) tag(auxdata []byte) {
	const size, tci, tpid, macs = 20, 16, 18, 12 // offsets
	if len(auxdata) < size || binary.NativeEndian.Uint32(auxdata)&unix.TP_STATUS_VLAN_VALID == 0 || len(f.data) < macs {
		return
	}
	protocol := uint16(unix.ETH_P_8021Q)
	if binary.NativeEndian.Uint32(auxdata)&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		protocol = binary.NativeEndian.Uint16(auxdata[tpid:])
	}
	tagged := append([]byte(nil), f.data[:macs]...)
	tagged = binary.BigEndian.AppendUint16(tagged, protocol)
	tagged = binary.BigEndian.AppendUint16(tagged, binary.NativeEndian.Uint16(auxdata[tci:]))
	tagged = append(tagged, f.data[macs:]...)
	f.data, f.size = tagged[:min(len(tagged), SnapLength)], f.size+4 // readers refuse what is longer
}

// writeCounts writes how many frames the link's socket has heard, and how many of them were dropped since they were not
// written fast enough.
func (r *reader) writeCounts(file *pcapgo.NgWriter, index int) error {
	var counts *unix.TpacketStats
	var failed error
	err := r.raw.Control(func(fd uintptr) {
		counts, failed = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS)
	})
	if err := errors.Join(err, failed); err != nil {
		return fmt.Errorf("counts of %s: %w", r.name, err)
	}
	return file.WriteInterfaceStats(index, pcapgo.NgInterfaceStatistics{
		LastUpdate: time.Now(), PacketsReceived: uint64(counts.Packets), PacketsDropped: uint64(counts.Drops),
	})
}
