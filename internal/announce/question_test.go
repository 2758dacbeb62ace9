// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// TestQuestion: the kernel answers a question for an address that it has, and the answer is read.
func TestQuestion(t *testing.T) {
	here, there := nstest.New(t), nstest.New(t)
	asker, holder := mac.MustParse("02:00:00:00:00:01"), mac.MustParse("02:00:00:00:00:02")
	addresses := []string{"10.9.9.2/24", "fd99::2/64"}
	here.Do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = "a", asker[:]
		return errors.Join(netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: "b", PeerHardwareAddr: holder[:], PeerNamespace: netlink.NsFd(there.FD()),
		}), up("a"))
	})
	there.Do(t, func() error {
		link, err := netlink.LinkByName("b")
		if err != nil {
			return err
		}
		for _, a := range addresses {
			address, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			address.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, address); err != nil {
				return err
			}
		}
		return up("b")
	})
	here.Do(t, func() error {
		link, err := netlink.LinkByName("a")
		if err != nil {
			return err
		}
		fd := listen(t, link.Attrs().Index)
		defer unix.Close(fd)
		for _, text := range addresses {
			a := netip.MustParsePrefix(text).Addr()
			by, deadline := mac.Address{}, time.Now().Add(10*time.Second)
			for by.IsZero() && time.Now().Before(deadline) { // the other end may not have its carrier yet
				frame := Question(asker, netip.MustParseAddr("fe80::1"), a)
				if err := Send(link.Attrs().Index, [][]byte{frame}); err != nil {
					return err
				}
				by = answer(t, fd, a)
			}
			if by != holder {
				t.Errorf("%s is at %s, want %s", a, by, holder)
			}
		}
		return nil
	})
}

func up(name string) error {
	return netlink.LinkSetUp(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name}})
}

// listen returns a socket that hears what comes to a link.
func listen(t *testing.T, link int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(200 * time.Millisecond))
	if err := errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL << 8, Ifindex: link}),
	); err != nil {
		t.Fatal(err)
	}
	return fd
}

// answer returns the MAC in the first answer for an address, zero if none comes.
func answer(t *testing.T, fd int, want netip.Addr) mac.Address {
	t.Helper()
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) { // by a signal of the runtime's
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return mac.Address{}
		}
		if err != nil {
			t.Fatal(err)
		}
		if holder, a, ok := Answer(buf[:n]); ok && a == want {
			return holder
		}
	}
}

// FuzzAnswer: no frame makes it panic.
func FuzzAnswer(f *testing.F) {
	f.Add(Frame(mac.Address{2}, netip.MustParseAddr("10.9.9.2")))
	f.Add(Frame(mac.Address{2}, netip.MustParseAddr("fd99::2")))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = Answer(b) })
}
