// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// flowTime is how long one flow may take; it takes some milliseconds.
const flowTime = 5 * time.Second

// CheckFlows fails the test if a new TCP connection or a new exchange of UDP datagrams between two namespaces does not
// work, from the first to the second, where addr is. A ping that is repeated would not do: to connection tracking it is
// one flow, which may have been let pass before a rule was there.
func CheckFlows(t testing.TB, from, to *NS, addr netip.Addr) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		if err := Flow(from, to, network, addr); err != nil {
			t.Errorf("%s to %s: %v", network, addr, err)
		}
	}
}

// Flow sends data from one namespace to addr in another, and back, over a new flow: tcp or udp.
func Flow(from, to *NS, network string, addr netip.Addr) error {
	sent := bytes.Repeat([]byte("weave"), 300) // a UDP datagram that fills a frame, nearly
	if network == "tcp" {
		sent = bytes.Repeat(sent, 40) // frames that the kernel sends as one, to be cut by the link
	}
	server, port, err := echo(to, network, addr)
	if err != nil {
		return err
	}
	defer server.Close()
	var conn net.Conn
	err = from.do(func() (err error) {
		conn, err = net.DialTimeout(network, netip.AddrPortFrom(addr, port).String(), flowTime)
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(flowTime)); err != nil {
		return err
	}
	if _, err := conn.Write(sent); err != nil {
		return err
	}
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		return fmt.Errorf("read what was sent back: %w", err)
	}
	if !bytes.Equal(got, sent) {
		return errors.New("what was sent back is not what was sent")
	}
	return nil
}

// echo listens in a namespace and sends back what comes.
func echo(ns *NS, network string, addr netip.Addr) (server io.Closer, port uint16, err error) {
	listen := netip.AddrPortFrom(addr, 0)
	err = ns.do(func() error {
		if network == "udp" {
			conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(listen))
			if err != nil {
				return err
			}
			server, port = conn, conn.LocalAddr().(*net.UDPAddr).AddrPort().Port()
			go echoUDP(conn)
			return nil
		}
		listener, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(listen))
		if err != nil {
			return err
		}
		server, port = listener, listener.Addr().(*net.TCPAddr).AddrPort().Port()
		go echoTCP(listener)
		return nil
	})
	return server, port, err
}

func echoUDP(conn *net.UDPConn) {
	buffer := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		_, _ = conn.WriteToUDPAddrPort(buffer[:n], from) // the client sees what is missing
	}
}

func echoTCP(listener *net.TCPListener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn) // the client sees what is missing
		}()
	}
}

// do runs f inside the namespace, as Do does, and returns its error.
func (n *NS) do(f func() error) error {
	defer runtime.KeepAlive(n)
	return onOwnThread(func() error {
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the test namespace: %w", err)
		}
		return f()
	})
}
