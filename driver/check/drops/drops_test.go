// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// Addresses of the two ends, and one that nobody has.
const (
	a4, b4, nobody = "10.32.0.1", "10.32.0.2", "10.32.0.99"
	a6, b6         = "fd00::1", "fd00::2"
)

// newPair returns two namespaces that reach each other by a veth pair: eth1 in the first one, eth0 in the second.
func newPair(t *testing.T) (first, second *nstest.NS) {
	t.Helper()
	first, second = nstest.New(t), nstest.New(t)
	first.Do(t, func() error { return nstest.Run("sysctl -qw net.ipv6.conf.default.accept_dad=0") })
	second.Do(t, func() error { return nstest.Run("sysctl -qw net.ipv6.conf.default.accept_dad=0") })
	nstest.Veth(t, first, second, "eth1", b4+"/24", b6+"/64")
	first.Do(t, func() error {
		return nstest.Run("ip addr add "+a4+"/24 dev eth1", "ip addr add "+a6+"/64 dev eth1")
	})
	return first, second
}

// inode returns the number by which the kernel tells a namespace.
func inode(t *testing.T, ns *nstest.NS) uint64 {
	t.Helper()
	info, err := ns.File().Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// sendUDP sends a datagram with so many bytes from a namespace, to a port where nobody listens.
func sendUDP(t *testing.T, ns *nstest.NS, to string, size int) {
	t.Helper()
	ns.Do(t, func() error {
		conn, err := net.Dial("udp", net.JoinHostPort(to, "9"))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(make([]byte, size))
		return err
	})
}

// refused connects from a namespace to a port where nobody listens; the answer says so.
func refused(t *testing.T, ns *nstest.NS, to string) {
	t.Helper()
	ns.Do(t, func() error {
		_, err := net.Dial("tcp", net.JoinHostPort(to, "80"))
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("%v, want that the connection is refused", err)
		}
		return nil
	})
}

// watch returns the drops between two addresses while f runs.
func watch(t *testing.T, a, b string, f func()) []Drop {
	t.Helper()
	w, err := Watch(t.Context(), netip.MustParseAddr(a), netip.MustParseAddr(b))
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	f()
	drops, err := w.Stop()
	if err != nil {
		t.Fatal(err)
	}
	return drops
}

// TestDrops causes drops for real, and the kernel tells which, where and why.
func TestDrops(t *testing.T) {
	first, second := newPair(t)
	inFirst, inSecond := inode(t, first), inode(t, second)
	for name, tc := range map[string]struct {
		a, b string
		do   func()
		want Drop
	}{
		"nobody listens": {a4, b4, func() { refused(t, first, b4) }, Drop{"NO_SOCKET", "tcp", 60, "eth0", inSecond}},
		"nobody listens, IPv6": {a6, b6, func() { refused(t, first, b6) },
			Drop{"NO_SOCKET", "tcp", 80, "eth0", inSecond}},
		"the way back": {b4, a4, func() { refused(t, second, a4) }, Drop{"NO_SOCKET", "tcp", 60, "eth1", inFirst}},
		"the other address first": {b4, a4, func() { refused(t, first, b4) },
			Drop{"NO_SOCKET", "tcp", 60, "eth0", inSecond}},
		"a rule": {a4, b4, func() {
			second.Do(t, func() error {
				return nstest.Run("nft add table ip t", "nft add chain ip t c { type filter hook input priority 0 ; }",
					"nft add rule ip t c udp dport 9 drop")
			})
			sendUDP(t, first, b4, 100)
			second.Do(t, func() error { return nstest.Run("nft delete table ip t") })
		}, Drop{"NETFILTER_DROP", "udp", 128, "eth0", inSecond}},
		"ARP": {a4, b4, func() {
			second.Do(t, func() error {
				return nstest.Run("nft add table arp t",
					"nft add chain arp t c { type filter hook input priority 0 ; }", "nft add rule arp t c drop")
			})
			first.Do(t, func() error { return nstest.Run("ip neigh flush dev eth1") })
			sendUDP(t, first, b4, 1)
			second.Do(t, func() error { return nstest.Run("nft delete table arp t") })
		}, Drop{"NETFILTER_DROP", "arp", 28, "eth0", inSecond}},
	} {
		t.Run(name, func(t *testing.T) {
			got := watch(t, tc.a, tc.b, tc.do)
			if !slices.Contains(got, tc.want) {
				t.Errorf("%#v, want %#v", got, tc.want)
			}
		})
	}
}

// TestOthers: what is dropped between others is not told.
func TestOthers(t *testing.T) {
	first, second := newPair(t)
	got := watch(t, a4, nobody, func() { refused(t, first, b4); refused(t, second, a4) })
	if len(got) > 0 {
		t.Errorf("%+v, want nothing", got)
	}
	if got := watch(t, a4, b4, func() {}); len(got) > 0 {
		t.Errorf("nothing was sent: %+v", got)
	}
}

// TestMany: a flood is told in part, and Stop returns.
func TestMany(t *testing.T) {
	first, _ := newPair(t)
	got := watch(t, a4, b4, func() {
		first.Do(t, func() error {
			conn, err := net.Dial("udp", b4+":9")
			if err != nil {
				return err
			}
			defer conn.Close()
			for range 5000 {
				if _, err := conn.Write([]byte("x")); err != nil && !errors.Is(err, unix.ECONNREFUSED) {
					return err
				}
			}
			return nil
		})
	})
	if most := ringSize / eventLen; len(got) < 100 || len(got) > most {
		t.Errorf("%d drops, want 100 to %d", len(got), most)
	}
}

// TestWatchFails: the error has what the child says, and no child is left.
func TestWatchFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Watch(ctx, netip.MustParseAddr(a4), netip.MustParseAddr(b4)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that the context has ended", err)
	}
	_, err := Watch(t.Context(), netip.Addr{}, netip.Addr{})
	if err == nil || !strings.Contains(err.Error(), "ParseAddr") {
		t.Errorf("%v, want that there is no address", err)
	}
}

func TestIsLinkName(t *testing.T) {
	for name, want := range map[string]bool{
		"eth0": true, "wve-0123456789a": true, "": false, "a b": false, "\x00": false, "\xff\xfe": false,
		"sixteen-letters!": false,
	} {
		if got := isLinkName([]byte(name)); got != want {
			t.Errorf("%q: %t, want %t", name, got, want)
		}
	}
}
