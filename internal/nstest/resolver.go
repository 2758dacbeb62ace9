// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"net"
	"testing"
)

// Resolver stands where Docker's resolver is in a sandbox, at 127.0.0.11:53 of the namespace, until t ends. What comes
// by UDP is answered with what udp returns, and connections by TCP, one after the other, by tcp.
func Resolver(t testing.TB, ns *NS, udp func(question []byte) []byte, tcp func(net.Conn)) {
	t.Helper()
	const address = "127.0.0.11:53"
	ns.Do(t, func() error {
		conn, err := net.ListenPacket("udp4", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = conn.Close() })
		go answerPackets(conn, udp)
		l, err := net.Listen("tcp4", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go answerConnections(l, tcp)
		return nil
	})
}

func answerPackets(conn net.PacketConn, answer func([]byte) []byte) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if _, err := conn.WriteTo(answer(buf[:n]), from); err != nil {
			return
		}
	}
}

func answerConnections(l net.Listener, answer func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		answer(c)
		_ = c.Close()
	}
}
