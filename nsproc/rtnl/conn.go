// Package rtnl asks the kernel over rtnetlink for links, addresses, routes and neighbours: of the namespace that its
// socket was opened in, or, where the kernel allows, of another one by its id. It is the one decoder of such answers:
// nsproc uses it in a sandbox, netnsid in the host's namespace.
//
// It speaks netlink by itself because a dump has to be whole: the kernel may mark a dump as interrupted on its very
// last message only, NLMSG_DONE, which mdlayher/netlink does not hand out (v1.11.2), and vishvananda/netlink knows no
// target namespaces (v1.3.1).
package rtnl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInterrupted means that the kernel's tables changed under each of several attempts to read them.
var ErrInterrupted = errors.New("the listing changed while it was read, each time")

// ErrRefused means that the kernel answered with an error; the unix.Errno is wrapped too.
var ErrRefused = errors.New("refused by the kernel")

// ErrNoTarget means that this kernel does not answer for other namespaces (before Linux 5.0).
var ErrNoTarget = errors.New("the kernel does not answer for other namespaces")

const (
	// dumpAttempts is how often a dump is tried while the kernel says that it was interrupted.
	dumpAttempts = 5
	// readTimeout is how long an answer may take; the kernel's own are there when send returns.
	readTimeout = 5 * time.Second
	// bufferSize holds one datagram of a dump. The kernel puts 32 kB in one (netlink_dump in af_netlink.c), but a single
	// link with many alternative names can take more, and a container may give its link such.
	bufferSize = 256 << 10
)

var native = binary.NativeEndian

// Conn is a connection to rtnetlink. One goroutine at a time may use it. After an error other than
// ErrRefused and ErrInterrupted it must be closed.
type Conn struct {
	fd     int
	seq    uint32
	strict bool // the kernel checks requests strictly, so it refuses what it does not know
	buf    []byte
}

// Dial opens a connection in the namespace of the calling thread.
func Dial() (*Conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open an rtnetlink socket: %w", err)
	}
	c := newConn(fd)
	c.strict = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1) == nil
	tv := unix.NsecToTimeval(readTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		c.Close()
		return nil, fmt.Errorf("set the timeout of an rtnetlink socket: %w", err)
	}
	return c, nil
}

func newConn(fd int) *Conn { return &Conn{fd: fd, buf: make([]byte, bufferSize)} }

// Close closes the connection.
func (c *Conn) Close() error { return unix.Close(c.fd) }

// dump sends a dump request and hands each message of the whole answer to one; it is valid until one returns. It starts
// anew, after reset, when the kernel says that the answer is not of one piece.
func (c *Conn) dump(typ uint16, payload []byte, reset func(), one func(received) error) error {
	for range dumpAttempts {
		reset()
		interrupted, err := c.exchange(typ, unix.NLM_F_DUMP, payload, one)
		if err != nil || !interrupted {
			return err
		}
	}
	return ErrInterrupted
}

// change sends a request that the kernel acknowledges.
func (c *Conn) change(typ, flags uint16, payload []byte) error {
	_, err := c.exchange(typ, flags|unix.NLM_F_ACK, payload, func(received) error { return nil })
	return err
}

// ask sends a request that the kernel answers with one message and returns that message's payload.
func (c *Conn) ask(typ uint16, payload []byte) ([]byte, error) {
	var answer []byte
	_, err := c.exchange(typ, 0, payload, func(m received) error {
		answer = bytes.Clone(m.payload)
		return nil
	})
	if err == nil && answer == nil {
		err = errors.New("netlink: acknowledged without an answer")
	}
	return answer, err
}

// exchange sends one request and reads its answer up to the end: the acknowledgement or the dump's last message that
// flags ask for, else the only message. An error of one is returned after that, so that the connection stays in step.
func (c *Conn) exchange(typ, flags uint16, payload []byte, one func(received) error) (interrupted bool, err error) {
	c.seq++
	if _, err := unix.Write(c.fd, message(typ, flags|unix.NLM_F_REQUEST, c.seq, payload)); err != nil {
		return false, fmt.Errorf("netlink send: %w", err)
	}
	var first error // of one
	for {
		data, err := c.receive()
		if err != nil {
			return false, err
		}
		for len(data) > 0 {
			m, rest, err := nextMessage(data)
			if err != nil {
				return false, err
			}
			data = rest
			if m.seq != c.seq {
				continue
			}
			interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
			switch m.typ {
			case unix.NLMSG_NOOP:
			case unix.NLMSG_ERROR, unix.NLMSG_DONE: // a dump may be refused with either
				if err := m.errno(); err != nil {
					return interrupted, err
				}
				return interrupted, first
			default:
				if first == nil {
					first = one(m)
				}
				if flags&(unix.NLM_F_DUMP|unix.NLM_F_ACK) == 0 {
					return interrupted, first
				}
			}
		}
	}
}

// receive returns the next datagram of the kernel; it is valid until the next call.
func (c *Conn) receive() ([]byte, error) {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("netlink receive: %w", err)
		case n > len(c.buf):
			return nil, fmt.Errorf("netlink receive: a message of %d bytes, want at most %d", n, len(c.buf))
		case n == 0:
			return nil, errors.New("netlink receive: an empty message")
		}
		if sa, ok := from.(*unix.SockaddrNetlink); ok && sa.Pid != 0 {
			continue // another process wrote to us
		}
		return c.buf[:n], nil
	}
}
