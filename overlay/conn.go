// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// batchSize is how many changes go to the kernel with one system call. 100,000 entries take a quarter of the time
	// that they take one by one (BenchmarkProgram).
	batchSize = 200
	// answerTime is how long an answer may take. The kernel has answered when send returns, so it only guards against a
	// request that has no answer.
	answerTime = 5 * time.Second
	// answerSize is more than the largest datagram of a dump (32 KiB).
	answerSize = 64 << 10
	// answerBuffer holds the errors of a batch, in bytes.
	answerBuffer = 1 << 20
	// dumpAttempts and dumpPause are for dumps during which the tables changed.
	dumpAttempts = 10
	dumpPause    = 10 * time.Millisecond
)

var native = binary.NativeEndian

// conn is a connection to rtnetlink on which many changes go at once. One goroutine at a time may use it. After an
// error that conn itself returns its state is unknown, and it has to be closed.
type conn struct {
	fd       int
	sequence uint32
	buf      []byte
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open an rtnetlink socket: %w", err)
	}
	tv := unix.NsecToTimeval(answerTime.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, answerBuffer),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1), // errors come without the request
	)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set up an rtnetlink socket: %w", err)
	}
	// With it the kernel dumps one bridge or link alone; those before 4.20 dump all.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_GET_STRICT_CHK, 1)
	return &conn{fd: fd, buf: make([]byte, answerSize)}, nil
}

func (c *conn) close() { unix.Close(c.fd) }

// apply makes the changes, in order. It calls failed with each that the kernel refuses and goes on.
func (c *conn) apply(ctx context.Context, l links, changes []change, failed func(change, error)) error {
	return c.applyBy(ctx, batchSize, l, changes, failed)
}

func (c *conn) applyBy(ctx context.Context, size int, l links, changes []change, failed func(change, error)) error {
	var out []byte
	for len(changes) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		batch := changes[:min(size, len(changes))]
		changes = changes[len(batch):]
		first := c.sequence + 1
		out = out[:0]
		for i, ch := range batch {
			c.sequence++
			flags := uint16(unix.NLM_F_REQUEST)
			if i == len(batch)-1 { // the kernel tells errors in any case, and works in order
				flags |= unix.NLM_F_ACK
			}
			out = ch.append(out, l, flags, c.sequence)
		}
		if err := c.send(out); err != nil {
			return err
		}
		err := c.answers(func(m answer) (done bool) {
			at := m.sequence - first
			if m.typ != unix.NLMSG_ERROR || at >= uint32(len(batch)) {
				return false // of an earlier request
			}
			if err := m.errno(); err != nil && !batch[at].isDone(err) {
				failed(batch[at], err)
			}
			return m.sequence == c.sequence
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dump requests a dump of neighbours and calls handle with each of its messages. If the tables changed meanwhile it
// begins again, after a call of reset.
func (c *conn) dump(ctx context.Context, request []byte, reset func(), handle func(message []byte)) error {
	for range dumpAttempts {
		reset()
		interrupted, err := c.dumpOnce(request, handle)
		if err != nil || !interrupted {
			return err
		}
		if !wait.For(ctx, dumpPause) {
			return ctx.Err()
		}
	}
	return errors.New("the tables changed while they were read, each time")
}

func (c *conn) dumpOnce(request []byte, handle func(message []byte)) (interrupted bool, err error) {
	c.sequence++
	const flags = unix.NLM_F_REQUEST | unix.NLM_F_DUMP
	out := appendHeader(nil, unix.RTM_GETNEIGH, flags, c.sequence)
	out = append(out, request...)
	native.PutUint32(out, uint32(len(out)))
	if err := c.send(out); err != nil {
		return false, err
	}
	var refused error
	err = c.answers(func(m answer) (done bool) {
		if m.sequence != c.sequence {
			return false
		}
		interrupted = interrupted || m.flags&unix.NLM_F_DUMP_INTR != 0
		switch m.typ {
		case unix.NLMSG_ERROR, unix.NLMSG_DONE: // either may carry the error of a dump
			refused = m.errno()
			return true
		case unix.RTM_NEWNEIGH:
			handle(m.payload)
		}
		return false
	})
	if err == nil {
		err = refused
	}
	return interrupted, err
}

func (c *conn) send(b []byte) error {
	if err := unix.Sendto(c.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink send: %w", err)
	}
	return nil
}

// answer is a message from the kernel. It is valid until the next is read.
type answer struct {
	typ, flags uint16
	sequence   uint32
	payload    []byte
}

// errno returns the error that the message carries; nil: none.
func (m answer) errno() error {
	if len(m.payload) < 4 {
		return nil
	}
	if code := int32(native.Uint32(m.payload)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// answers calls handle with one message of the kernel's after the other until it says that it is done.
func (c *conn) answers(handle func(answer) (done bool)) error {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_TRUNC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("netlink receive: %w", err)
		case n > len(c.buf):
			return fmt.Errorf("netlink receive: a message of %d bytes, want at most %d", n, len(c.buf))
		}
		if sa, ok := from.(*unix.SockaddrNetlink); ok && sa.Pid != 0 {
			continue // from another process
		}
		for m := range messages(c.buf[:n]) {
			if handle(m) {
				return nil
			}
		}
	}
}

// messages are those of a datagram of the kernel's.
func messages(b []byte) iter.Seq[answer] {
	return func(yield func(answer) bool) {
		for len(b) >= unix.SizeofNlMsghdr {
			size := int(native.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				return
			}
			m := answer{
				typ: native.Uint16(b[4:]), flags: native.Uint16(b[6:]), sequence: native.Uint32(b[8:]),
				payload: b[unix.SizeofNlMsghdr:size],
			}
			if !yield(m) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

// attributes are those of a message of the kernel's, by type.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			size := int(native.Uint16(b))
			if size < unix.SizeofRtAttr || size > len(b) {
				return
			}
			if !yield(native.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:size]) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

func align(n int) int { return (n + 3) &^ 3 }
