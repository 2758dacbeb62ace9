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

// kind is one of probe.
type kind int

// The kinds of probes. Those of echo requests are their sequence numbers, too.
const (
	kindConnect kind = iota // a TCP connection
	kindSmall               // a small echo request
	kindFull                // one as large as the MTU, which must not be fragmented
	kinds
)

// Probes are what probes from inside a sandbox have found out. A nil error is an answer.
type Probes struct {
	Small  error
	Full   error
	Size   int   // of that, in bytes
	TCP    error // nil too if none was tried
	trails [kinds]trail
}

var errNoAnswer = errors.New("no answer in time")

// prober probes an address from inside a sandbox.
type prober struct {
	sockets [protocol.ProbeSockets]int
	to      netip.AddrPort // port 0: no connection is tried
	mtu     int            // bytes
	id      uint16         // of the echo requests
	local   uint16         // the port that the connection is from; 0: it is not known
}

// newProber returns a prober, to which the sockets belong.
func newProber(sockets [protocol.ProbeSockets]int, to netip.Addr, port uint16, mtu int) *prober {
	p := &prober{sockets: sockets, to: netip.AddrPortFrom(to, port), mtu: mtu, id: uint16(rand.Uint32())}
	if port > 0 {
		p.local = bind(sockets[protocol.SocketConnect], to.Is6())
	}
	return p
}

// bind gives a socket a port, so that it is known before a packet is sent. Without one it gets one later.
func bind(fd int, ipv6 bool) uint16 {
	anywhere := netip.IPv4Unspecified()
	if ipv6 {
		anywhere = netip.IPv6Unspecified()
	}
	if unix.Bind(fd, sockaddr(netip.AddrPortFrom(anywhere, 0))) != nil {
		return 0
	}
	switch a, _ := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		return uint16(a.Port)
	case *unix.SockaddrInet6:
		return uint16(a.Port)
	}
	return 0
}

func (p *prober) close() {
	for _, fd := range p.sockets {
		unix.Close(fd)
	}
}

// probe sends the probes and waits for the answers.
func (p *prober) probe(ctx context.Context) Probes {
	header := ipv4.HeaderLen
	if p.to.Addr().Is6() {
		header = ipv6.HeaderLen
	}
	const icmpHeader = 8
	found := Probes{Size: p.mtu}
	found.Small = p.echo(ctx, kindSmall, 56)
	found.Full = p.echo(ctx, kindFull, p.mtu-header-icmpHeader)
	if p.to.Port() > 0 {
		found.TCP = connect(ctx, p.sockets[protocol.SocketConnect], p.to)
	}
	return found
}

// echo sends an echo request with so many bytes of data, which is not fragmented, and waits for the answer.
func (p *prober) echo(ctx context.Context, k kind, size int) error {
	fd, to, id, seq := p.sockets[protocol.SocketICMP], p.to.Addr(), int(p.id), int(k)
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
