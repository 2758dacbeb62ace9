// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// TestChecksumOffload: a network card that claims to make the checksums inside of a tunnel, and does not, is found by
// both hosts; what they say to do about it helps. The packets around are dropped for their checksums, too, unless they
// have none.
func TestChecksumOffload(t *testing.T) {
	for name, outer := range map[string]bool{"outer checksums": true, "no outer checksums": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire := nstest.New(t)
			hosts := newHosts(t, wire, false)
			relay(t, wire, outer, "host1", "host2")
			one, two := hosts[0], hosts[1]
			one.start()
			two.start()
			two.finds(one, ChecksumOut)
			r := one.finds(two, ChecksumOut)
			for _, want := range []string{"the checksum offload of under is faulty", "ethtool -K under tx off"} {
				if !strings.Contains(r.Text, want) {
					t.Errorf("%q, want %q in it", r.Text, want)
				}
			}
			one.turnOffloadOff()
			r = one.finds(two, ChecksumIn)
			if want := "the checksum offload of host2's link with address 192.0.2.2"; !strings.Contains(r.Text, want) {
				t.Errorf("%q, want %q in it", r.Text, want)
			}
			two.finds(one, ChecksumOut)
			two.turnOffloadOff()
			one.finds(two, None)
			two.finds(one, None)
		})
	}
}

// turnOffloadOff does what ethtool -K under tx off does.
func (h *host) turnOffloadOff() {
	h.t.Helper()
	const setTransmitChecksums = 0x17 // ETHTOOL_STXCSUM of linux/ethtool.h
	value := struct{ command, data uint32 }{command: setTransmitChecksums}
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], "under")
	h.ns.Do(h.t, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
		if errno != 0 {
			return fmt.Errorf("ethtool: %w", errno)
		}
		return nil
	})
}

// relay carries frames between two links of a namespace until the test ends. It does what the links of the hosts leave
// to a network card, but for checksums inside of a tunnel. With outer false the packets around these have none.
func relay(t *testing.T, wire *nstest.NS, outer bool, links ...string) {
	t.Helper()
	var fds [2]int
	wire.Do(t, func() error {
		for i, name := range links {
			link, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			fds[i] = fd
			all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
			soon := unix.NsecToTimeval(1e7)
			err = errors.Join(
				unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
				unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
				unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &soon),
				unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
			if err != nil {
				return err
			}
		}
		return nil
	})
	var carrying sync.WaitGroup
	ended := make(chan struct{})
	for i := range fds {
		carrying.Go(func() {
			buf := make([]byte, bufferSize)
			for {
				n, err := unix.Read(fds[i], buf)
				select {
				case <-ended:
					return
				default:
				}
				if err == nil {
					finish(buf[:n], outer)
					_, _ = unix.Write(fds[1-i], buf[:n]) // a link that is going takes nothing
				}
			}
		})
	}
	t.Cleanup(func() {
		close(ended)
		carrying.Wait()
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
}

// finish makes the checksum that is left to be made, and says so in the virtio header.
func finish(b []byte, outer bool) {
	const udpAt = etherHeader + ipHeader
	start, offset := int(binary.NativeEndian.Uint16(b[6:])), int(binary.NativeEndian.Uint16(b[8:]))
	frame := b[vnetHeader:]
	switch {
	case b[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM == 0:
	case start == udpAt:
		binary.BigEndian.PutUint16(frame[start+offset:], ^sum(0, frame[start:]))
	case !outer:
		binary.BigEndian.PutUint16(frame[udpAt+udpChecksumAt:], 0)
	}
	clear(b[:vnetHeader])
}
