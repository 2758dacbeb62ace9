// SPDX-License-Identifier: Apache-2.0

package names

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/nft"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// enter returns sandboxes in which s answers that b1 is at 10.0.0.2, and Docker's resolver stands behind it.
func enter(t *testing.T, s *Server, count int) (sandboxes []*nstest.NS) {
	t.Helper()
	s.SetNetwork("app", []Endpoint{{Names: []string{"b1"}, Addresses: addrs("10.0.0.2")}})
	for range count {
		ns := nstest.New(t)
		docker(t, ns)
		sandboxes = append(sandboxes, ns)
	}
	s.SetSandboxes(on(sandboxes...))
	for _, ns := range sandboxes {
		eventually(t, "names", func() bool { return knowsB1(t, ns) })
	}
	return sandboxes
}

// on has the sandboxes on the network of which enter tells.
func on(sandboxes ...*nstest.NS) map[string][]Attachment {
	wanted := map[string][]Attachment{}
	for _, ns := range sandboxes {
		wanted[ns.Path()] = []Attachment{{Network: "app", Name: "app"}}
	}
	return wanted
}

func knowsB1(t *testing.T, ns *nstest.NS) bool {
	t.Helper()
	return slices.Equal(lookup(t, ns, "udp4", "b1."), []string{"10.0.0.2"})
}

// TestBusySandbox: a sandbox whose nftables are busy, which keeps whoever tells its table something waiting, keeps
// nobody else waiting.
func TestBusySandbox(t *testing.T) {
	s, _ := newServer(t)
	sandboxes := enter(t, s, 2)
	good, busy := sandboxes[0], sandboxes[1]
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	replaceTable(t, relays(s)[busy.Path()], pair[0])
	release := sync.OnceFunc(func() {
		if _, err := unix.Write(pair[1], make([]byte, 64)); err != nil { // which is no answer of the kernel's
			t.Error(err)
		}
		unix.Close(pair[1])
	})
	t.Cleanup(release)
	for start := time.Now(); time.Since(start) < 2*nft.Alive; {
		if !knowsB1(t, good) {
			t.Fatalf("another sandbox has no names after %v", time.Since(start))
		}
	}
	s.SetSandboxes(on(good))
	if relays(s)[busy.Path()] == nil {
		t.Error("the sandbox is left while its table is in use")
	}
	release()
	eventually(t, "the sandbox is left", func() bool { return relays(s)[busy.Path()] == nil })
}

// TestBusyClose: likewise while a table is closed.
func TestBusyClose(t *testing.T) {
	s, _ := newServer(t)
	sandboxes := enter(t, s, 2)
	good, busy := sandboxes[0], sandboxes[1]
	table := relays(s)[busy.Path()].sockets[protocol.SocketTable]
	fd, peer := lingering(t)
	what := func(fd int) string {
		link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		return link
	}
	was := what(fd)
	replaceTable(t, relays(s)[busy.Path()], fd)
	s.SetSandboxes(on(good))
	eventually(t, "the table is being closed", func() bool { return what(table) != was })
	told := make(chan int, 1)
	go func() {
		s.SetNetwork("other", nil)
		told <- len(relays(s))
	}()
	select {
	case open := <-told:
		if open != 2 {
			t.Errorf("%d sandboxes have sockets, want both until the table is closed", open)
		}
	case <-time.After(10 * time.Second):
		t.Error("who tells something waits until the table is closed")
	}
	peer.Close()
	eventually(t, "the sandbox is left", func() bool { return len(relays(s)) == 1 })
	if !knowsB1(t, good) {
		t.Error("the other sandbox has no names")
	}
}

// TestOneRefusal: what the kernel refuses in one sandbox, as it does when the container's rules of routing drop packets
// to Docker's resolver, is said of that sandbox, and the others have names.
func TestOneRefusal(t *testing.T) {
	s, _ := newServer(t)
	refused := nstest.New(t)
	refused.Do(t, func() error {
		return nstest.Run("ip rule add pref 10 lookup local", "ip rule del pref 0",
			"ip rule add pref 0 to 127.0.0.11 blackhole") // connect: invalid argument
	})
	s.SetSandboxes(on(refused))
	eventually(t, "a problem", func() bool { return len(s.Problems()) > 0 })
	good := enter(t, s, 1)[0]
	s.SetSandboxes(on(refused, good))
	eventually(t, "names in another sandbox", func() bool { return knowsB1(t, good) })
	eventually(t, "a problem", func() bool { return len(s.Problems()) > 0 })
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], refused.Path()) {
		t.Errorf("problems: %q", p)
	}
}

// TestDestroyedSocket: the sockets that a container destroys in its namespace are opened again, and until then nobody
// reads them all the time.
func TestDestroyedSocket(t *testing.T) {
	for _, kind := range []string{"-tl", "-ua"} {
		t.Run(kind, func(t *testing.T) {
			s, _ := newServer(t)
			ns := enter(t, s, 1)[0]
			before := relays(s)[ns.Path()]
			fd := before.sockets[protocol.SocketTCP]
			if kind == "-ua" {
				fd = before.sockets[protocol.SocketUDP]
			}
			ns.Do(t, func() error { return nstest.Run("ss -K -n " + kind + " src 127.0.0.11 sport != 53") })
			eventually(t, "poll does not wait for it", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.asked[fd].relay != before
			})
			eventually(t, "sockets again", func() bool {
				now := relays(s)[ns.Path()]
				return now != nil && now != before
			})
			for _, network := range []string{"udp4", "tcp4"} {
				eventually(t, "names by "+network, func() bool {
					return slices.Equal(lookup(t, ns, network, "b1."), []string{"10.0.0.2"})
				})
			}
		})
	}
}

// replaceTable puts another descriptor in the place of the one of a relay's table, which the kernel removes.
func replaceTable(t *testing.T, r *relay, fd int) {
	t.Helper()
	if err := unix.Dup3(fd, r.sockets[protocol.SocketTable], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
}

// lingering returns a socket to which nothing can be written, and whose close takes until peer is closed.
func lingering(t *testing.T) (fd int, peer net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: l.Addr().(*net.TCPAddr).Port}
	if err := unix.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	if peer, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	tv := unix.Timeval{Usec: 1000}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	linger := unix.Linger{Onoff: 1, Linger: 60}
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &linger); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 1<<16); err == nil; {
		_, err = unix.Write(fd, buf)
	}
	return fd, peer
}
