// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// sniffer sees what the underlay carries: what the hosts send.
type sniffer struct {
	u  *underlay
	fd int
}

// seen counts the packets of the tunnel.
type seen struct {
	unicasts           map[netip.Addr]int // frames to one station inside, by the VTEP that they are for
	arp, solicitations int                // inside: ARP, and neighbour solicitations and advertisements
	broadcasts         map[netip.Addr]int // frames to all inside, by the VTEP that they are for
	tagged, fragments  int
	largest            int // bytes, with the IP header around
}

func (u *underlay) sniff() *sniffer {
	u.t.Helper()
	s := &sniffer{u: u, fd: -1}
	u.wire.Do(u.t, func() (err error) {
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		const protocol = unix.ETH_P_ALL
		return errors.Join(
			unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: protocol<<8 | protocol>>8}),
		)
	})
	u.t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// read returns what has been seen since the last read.
func (s *sniffer) read(t *testing.T) seen {
	t.Helper()
	out := seen{unicasts: map[netip.Addr]int{}, broadcasts: map[netip.Addr]int{}}
	b := make([]byte, 1<<16)
	for {
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		if errors.Is(err, unix.EAGAIN) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
			out.count(b[:n])
		}
	}
}

// count counts a packet with its Ethernet header.
func (s *seen) count(b []byte) {
	if len(b) < 14 {
		return
	}
	var dst netip.Addr
	size := len(b) - 14
	switch binary.BigEndian.Uint16(b[12:]) {
	case unix.ETH_P_8021Q:
		s.tagged++
		return
	case unix.ETH_P_IP:
		if binary.BigEndian.Uint16(b[20:])&0x3fff != 0 {
			s.fragments++
		}
		if b[23] != unix.IPPROTO_UDP {
			return
		}
		dst, b = netip.AddrFrom4([4]byte(b[30:34])), b[34:]
	case unix.ETH_P_IPV6:
		if b[20] == unix.IPPROTO_FRAGMENT {
			s.fragments++
		}
		if b[20] != unix.IPPROTO_UDP {
			return
		}
		dst, b = netip.AddrFrom16([16]byte(b[38:54])), b[54:]
	default:
		return
	}
	if binary.BigEndian.Uint16(b[2:]) != udpPort {
		return
	}
	if size > s.largest && size <= underlayMTU { // what a link segments itself later is larger
		s.largest = size
	}
	b = b[16:] // UDP and VXLAN
	switch {
	case b[0] == 0xff:
		s.broadcasts[dst]++
	case b[0]&1 == 0:
		s.unicasts[dst]++
	}
	switch typ := binary.BigEndian.Uint16(b[12:]); {
	case typ == unix.ETH_P_8021Q:
		s.tagged++
	case typ == unix.ETH_P_ARP:
		s.arp++
	case typ == unix.ETH_P_IPV6 && b[20] == unix.IPPROTO_ICMPV6 && (b[54] == 135 || b[54] == 136):
		s.solicitations++
	}
}

func (s seen) String() string {
	return fmt.Sprintf("unicasts %v, broadcasts %v, ARP %d, ND %d, tagged %d, fragments %d, largest %d",
		s.unicasts, s.broadcasts, s.arp, s.solicitations, s.tagged, s.fragments, s.largest)
}
