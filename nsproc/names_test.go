// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/nft"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// echo answers what is asked of 127.0.0.11:53 in the namespace by UDP and TCP, with its name before it.
func echo(t *testing.T, ns *nstest.NS, name string) {
	t.Helper()
	nstest.Resolver(t, ns,
		func(question []byte) []byte { return append([]byte(name), question...) },
		func(c net.Conn) { _, _ = c.Write([]byte(name)) })
}

// dial returns a connection to 127.0.0.11:53 from inside the namespace.
func dial(t *testing.T, ns *nstest.NS, network string) net.Conn {
	t.Helper()
	var conn net.Conn
	ns.Do(t, func() (err error) {
		conn, err = net.DialTimeout(network, "127.0.0.11:53", 10*time.Second)
		return err
	})
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// ask sends text over a connection and returns the answer.
func ask(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 512)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatalf("no answer to %q: %v", text, err)
	}
	return string(buf[:n])
}

// answerAs answers the next question that arrives at the plugin's UDP socket.
func answerAs(t *testing.T, fd int, name string) {
	t.Helper()
	buf := make([]byte, 512)
	for deadline := time.Now().Add(10 * time.Second); ; {
		if time.Now().After(deadline) {
			t.Fatal("no question arrived")
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 1000); err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendto(fd, append([]byte(name), buf[:n]...), 0, from); err != nil {
			t.Fatal(err)
		}
		return
	}
}

func openNames(t *testing.T, l *launch.Launcher, ns *nstest.NS) launch.NameSockets {
	t.Helper()
	sockets, err := l.Names(t.Context(), ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	return sockets
}

// TestNames: after a refresh what is asked of Docker's resolver arrives at the plugin's sockets, what the plugin asks
// arrives at Docker's, and when the sockets are closed all is as before. A client's socket notices none of it.
func TestNames(t *testing.T) {
	l, ns := newLauncher(t), nstest.New(t)
	echo(t, ns, "docker:")
	client := dial(t, ns, "udp4")
	want := func(when, question, want string) {
		t.Helper()
		if got := ask(t, client, question); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	want("before", "1", "docker:1")
	for range 2 { // nothing is left of the first time
		sockets := openNames(t, l, ns)
		want("before the plugin is there", "2", "docker:2")
		for range 2 { // what is there already, too
			if err := nft.Refresh(sockets[protocol.SocketTable]); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := client.Write([]byte("3")); err != nil {
			t.Fatal(err)
		}
		answerAs(t, sockets[protocol.SocketUDP], "weave:")
		buf := make([]byte, 512)
		if n, err := client.Read(buf); err != nil || string(buf[:n]) != "weave:3" {
			t.Errorf("from the plugin: %q, %v", buf[:n], err)
		}

		stream := dial(t, ns, "tcp4")
		accepted, _, err := unix.Accept4(sockets[protocol.SocketTCP], unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(accepted, []byte("weave")); err != nil {
			t.Error(err)
		}
		if n, err := stream.Read(buf); err != nil || string(buf[:n]) != "weave" {
			t.Errorf("from the plugin by TCP: %q, %v", buf[:n], err)
		}
		unix.Close(accepted)

		if _, err := unix.Write(sockets[protocol.SocketDocker], []byte("4")); err != nil {
			t.Fatal(err)
		}
		poll := []unix.PollFd{{Fd: int32(sockets[protocol.SocketDocker]), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, 10000); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(sockets[protocol.SocketDocker], buf); err != nil || string(buf[:n]) != "docker:4" {
			t.Errorf("to Docker's resolver: %q, %v", buf[:n], err)
		}
		upstream := sockets[protocol.SocketStream]
		for range 2 { // a socket can be used again
			if err := unix.Connect(upstream, nft.DockersResolver()); err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Read(upstream, buf); err != nil || string(buf[:n]) != "docker:" {
				t.Errorf("to Docker's resolver by TCP: %q, %v", buf[:n], err)
			}
			if err := launch.Disconnect(upstream); err != nil {
				t.Fatal(err)
			}
		}
		if err := sockets.Close(); err != nil {
			t.Fatal(err)
		}
		want("after the plugin", "5", "docker:5")
	}
	ns.Do(t, func() error {
		out, err := exec.CommandContext(t.Context(), "nft", "list", "ruleset").CombinedOutput()
		if err == nil && strings.TrimSpace(string(out)) != "" {
			err = fmt.Errorf("rules are left: %s", out)
		}
		return err
	})
}

// TestNamesOfAPluginThatIsStopped: when the plugin does not say any more that it is there, Docker's resolver answers.
func TestNamesOfAPluginThatIsStopped(t *testing.T) {
	l, ns := newLauncher(t), nstest.New(t)
	echo(t, ns, "docker:")
	sockets := openNames(t, l, ns)
	t.Cleanup(func() { _ = sockets.Close() })
	if err := nft.Refresh(sockets[protocol.SocketTable]); err != nil {
		t.Fatal(err)
	}
	client, buf := dial(t, ns, "udp4"), make([]byte, 512)
	for start := time.Now(); ; {
		if _, err := client.Write([]byte("1")); err != nil {
			t.Fatal(err)
		}
		if err := client.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(buf); err == nil {
			if took := time.Since(start); string(buf[:n]) != "docker:1" || took < nft.Alive/2 {
				t.Errorf("%q after %v, want Docker's answer after %v", buf[:n], took, nft.Alive)
			}
			return
		}
		if time.Since(start) > 10*nft.Alive {
			t.Fatal("no answer")
		}
	}
}
