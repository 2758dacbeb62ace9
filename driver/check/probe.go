// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// probeTime is how long the answer to one probe may take.
const probeTime = time.Second

// Probes are what probes from inside a sandbox have found out. A nil error is an answer.
type Probes struct {
	Small error // a small echo request
	Full  error // one as large as the MTU, which must not be fragmented
	Size  int   // of that, in bytes
	TCP   error // a connection; nil too if none was tried
}

var errNoAnswer = errors.New("no answer within a second")

// probe probes an address from inside a sandbox, and a port of it if that is not 0. The sockets are its.
func probe(ctx context.Context, sockets [protocol.ProbeSockets]int, to netip.Addr, port uint16, mtu int) Probes {
	for _, fd := range sockets {
		defer unix.Close(fd)
	}
	header := ipv4.HeaderLen
	if to.Is6() {
		header = ipv6.HeaderLen
	}
	const icmpHeader = 8
	p := Probes{Size: mtu}
	p.Small = echo(ctx, sockets[protocol.SocketICMP], to, 1, 56)
	p.Full = echo(ctx, sockets[protocol.SocketICMP], to, 2, mtu-header-icmpHeader)
	if port > 0 {
		p.TCP = connect(ctx, sockets[protocol.SocketConnect], netip.AddrPortFrom(to, port))
	}
	return p
}

// echo sends an echo request with so many bytes of data, which is not fragmented, and waits for the answer.
func echo(ctx context.Context, fd int, to netip.Addr, seq, size int) error {
	id := int(rand.Uint32N(1 << 16))
	body := &icmp.Echo{ID: id, Seq: seq, Data: make([]byte, max(size, 0))}
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: body}
	level, option, dont := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
	if to.Is6() {
		message.Type = ipv6.ICMPTypeEchoRequest // its checksum is the kernel's business
		level, option, dont = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE
	}
	request, err := message.Marshal(nil)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, level, option, dont); err != nil {
		return fmt.Errorf("forbid fragments: %w", err)
	}
	if err := unix.Sendto(fd, request, 0, sockaddr(netip.AddrPortFrom(to, 0))); err != nil {
		return err
	}
	want := binary.BigEndian.AppendUint16(nil, uint16(id))
	want = binary.BigEndian.AppendUint16(want, uint16(seq))
	buf := make([]byte, 1<<16)
	for deadline := time.Now().Add(probeTime); ; {
		if err := await(ctx, fd, unix.POLLIN, deadline); err != nil {
			return err
		}
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return err
		}
		if isReply(buf[:n], to.Is6(), want) {
			return nil
		}
	}
}

// isReply reports whether a packet that a raw socket has received is the answer with this id and sequence number.
func isReply(b []byte, is6 bool, idAndSeq []byte) bool {
	reply := byte(ipv6.ICMPTypeEchoReply)
	if !is6 { // there the packet begins with its IPv4 header
		if len(b) < ipv4.HeaderLen || len(b) < int(b[0]&0x0f)*4 {
			return false
		}
		b = b[int(b[0]&0x0f)*4:]
		reply = byte(ipv4.ICMPTypeEchoReply)
	}
	return len(b) >= 8 && b[0] == reply && bytes.Equal(b[4:8], idAndSeq)
}

// connect connects a socket, and has the connection end with it.
func connect(ctx context.Context, fd int, to netip.AddrPort) error {
	err := unix.Connect(fd, sockaddr(to))
	if !errors.Is(err, unix.EINPROGRESS) {
		return err
	}
	if err := await(ctx, fd, unix.POLLOUT, time.Now().Add(2*probeTime)); err != nil {
		return err
	}
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// await waits until a socket is ready, which is errNoAnswer if it is not until the deadline.
func await(ctx context.Context, fd int, events int16, deadline time.Time) error {
	const pause = 50 * time.Millisecond // after which the context is looked at
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return errNoAnswer
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds, int(min(left, pause).Milliseconds())+1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for a socket: %w", err)
		case n > 0:
			return nil
		}
	}
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
