// SPDX-License-Identifier: Apache-2.0

// Package peer tells an HTTP server on a Unix socket whether root asks. The kernel keeps with each connection who has
// made it, so nobody can pretend to be somebody else.
//
// It works in any network namespace.
package peer

import (
	"net"
	"net/http"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen returns l, which listens on a Unix socket, with connections whose remote address is the user at the other end.
// A client's own address says nothing there. A user that can't be found out is nobody.
func Listen(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn{c, userOf(c)}, nil
}

type conn struct {
	net.Conn
	user user
}

func (c conn) RemoteAddr() net.Addr { return c.user }

// user is the id of a user, as an address.
type user int

const (
	nobody user = -1
	root   user = 0
)

func (user) Network() string  { return "unix" }
func (u user) String() string { return "uid " + strconv.Itoa(int(u)) }

// userOf returns the user who has made a connection.
func userOf(c net.Conn) user {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return nobody
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return nobody
	}
	found := nobody
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			found = user(cred.Uid)
		}
	})
	if err != nil {
		return nobody
	}
	return found
}

// IsRoot reports whether root has made a request. It has to have come over a connection of Listen's.
func IsRoot(r *http.Request) bool { return r.RemoteAddr == root.String() }
