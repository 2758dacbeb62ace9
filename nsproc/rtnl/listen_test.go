// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weaveplugin/weave/internal/nstest"
)

// listener returns a Listener of a host's namespace.
func listener(t *testing.T, host *nstest.NS) (l *Listener) {
	t.Helper()
	host.Do(t, func() (err error) {
		l, err = Listen()
		return err
	})
	t.Cleanup(l.Close)
	return l
}

// hear receives until it has heard an event for which is returns true, and returns all that it has heard.
func hear(t *testing.T, l *Listener, is func(Event) bool) (heard []Event) {
	t.Helper()
	defer time.AfterFunc(10*time.Second, l.Close).Stop()
	for !slices.ContainsFunc(heard, is) {
		if err := l.Receive(func(e Event) { heard = append(heard, e) }); err != nil {
			t.Fatalf("%v; heard %+v", err, heard)
		}
	}
	return heard
}

// TestListen: what happens in a sandbox is heard on the host, with the id of its namespace, which the other end of the
// veth pair has told; but of routes only default ones.
func TestListen(t *testing.T) {
	host, sandbox := nstest.New(t), nstest.New(t)
	l := listener(t, host)
	index, _ := nstest.Veth(t, host, sandbox, "wve-test", "10.40.0.2/16")
	up := hear(t, l, func(e Event) bool {
		return e.Type == unix.RTM_NEWLINK && e.Name == "wve-test" && e.Carrier && e.PeerNSID != Here
	})
	end := up[len(up)-1]
	if end.NSID != Here || end.Link != index || end.Peer == 0 {
		t.Errorf("host end %+v, want index %d", end, index)
	}
	for _, tt := range []struct {
		command string
		typ     uint16
		link    int
		other   bool // by the kernel, which does not name the socket
	}{
		{"ip addr del 10.40.0.2/16 dev eth0", unix.RTM_DELADDR, end.Peer, false},
		{"ip addr add 10.40.0.2/16 dev eth0", unix.RTM_NEWADDR, end.Peer, false},
		{"ip link set eth0 mtu 1400", unix.RTM_NEWLINK, end.Peer, true},
		{"ip route add default via 10.40.0.1", unix.RTM_NEWROUTE, 0, false},
		{"ip route del default", unix.RTM_DELROUTE, 0, false},
	} {
		sandbox.Do(t, func() error { return nstest.Run(tt.command) })
		heard := hear(t, l, func(e Event) bool { return e.Type == tt.typ && e.NSID == end.PeerNSID })
		if e := heard[len(heard)-1]; e.Link != tt.link || e.Port == 0 && !tt.other {
			t.Errorf("%s: %+v, want link %d and a port", tt.command, e, tt.link)
		}
	}

	sandbox.Do(t, func() error {
		return nstest.Run("ip route add 10.99.0.0/16 via 10.40.0.1", "ip route add default via 10.40.0.1",
			"ip addr add 10.40.0.3/16 dev eth0")
	})
	routes := 0
	for _, e := range hear(t, l, func(e Event) bool { return e.Type == unix.RTM_NEWADDR }) {
		if e.Type == unix.RTM_NEWROUTE {
			routes++
		}
	}
	if err := closed(l); err != nil || routes != 1 {
		t.Errorf("%d events about routes, %v; want one, about the default route", routes, err)
	}
}

// closed reads what is left until the Listener is closed.
func closed(l *Listener) error {
	l.Close()
	if err := l.Receive(func(Event) {}); !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("receive after close: %w", err)
	}
	return nil
}

// TestListenMisses: events that the kernel has no room for are told as missed.
func TestListenMisses(t *testing.T) {
	host, sandbox := nstest.New(t), nstest.New(t)
	l := listener(t, host)
	nstest.Veth(t, host, sandbox, "wve-test", "10.40.0.2/16")
	setBuffer(t, l, 1)
	for range 20 {
		sandbox.Do(t, func() error {
			return nstest.Run("ip addr del 10.40.0.2/16 dev eth0", "ip addr add 10.40.0.2/16 dev eth0")
		})
	}
	defer time.AfterFunc(10*time.Second, l.Close).Stop()
	for {
		err := l.Receive(func(Event) {})
		if errors.Is(err, ErrMissed) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// setBuffer sets the size of the kernel's buffer for a Listener.
func setBuffer(t *testing.T, l *Listener, bytes int) {
	t.Helper()
	var err error
	controlErr := l.raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes)
	})
	if err := errors.Join(err, controlErr); err != nil {
		t.Fatal(err)
	}
}

// TestListenNeedsItsCapability runs in a process of its own, which gives it up.
func TestListenNeedsItsCapability(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	set := cap.GetProc()
	if err := errors.Join(set.SetFlag(cap.Effective, false, cap.NET_BROADCAST), set.SetProc()); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(); !errors.Is(err, unix.EPERM) {
		t.Errorf("without CAP_NET_BROADCAST: %v, want EPERM", err)
	}
}

// FuzzDecodeEvent: a container decides what many events have in them.
func FuzzDecodeEvent(f *testing.F) {
	f.Add(message(unix.RTM_NEWLINK, 0, 0, appendAttr32(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_LINK, 7)))
	f.Add(message(unix.RTM_DELADDR, 0, 0, make([]byte, unix.SizeofIfAddrmsg)))
	f.Add(message(unix.RTM_DELROUTE, 0, 0, nil))
	f.Fuzz(func(_ *testing.T, b []byte) {
		for len(b) > 0 {
			m, rest, err := NextMessage(b)
			if err != nil {
				return
			}
			decodeEvent(m, Here)
			decodeEvent(m, 7)
			b = rest
		}
	})
}
