// SPDX-License-Identifier: Apache-2.0

package names

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// atOnce is how much is read from one socket before the others' turn.
const atOnce = 32

// watch has poll wait for what arrives at a descriptor, until that is closed.
func (s *Server) watch(fd int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// poll reads what arrives at the sockets of all sandboxes until wake is written to.
func (s *Server) poll() error {
	events, buf := make([]unix.EpollEvent, 64), make([]byte, maxMessage)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("wait for questions: %w", err)
		}
		for _, e := range events[:n] {
			if int(e.Fd) == s.wake {
				return nil
			}
			s.read(int(e.Fd), buf)
		}
	}
}

// read reads from one socket. It never waits: what arrives at one that has been closed meanwhile is not there.
func (s *Server) read(fd int, buf []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.asked[fd]
	if !ok {
		return
	}
	var err error
	for i := 0; err == nil && i < atOnce; i++ {
		switch a.kind {
		case protocol.SocketUDP:
			var n int
			var from unix.Sockaddr
			if n, from, err = unix.Recvfrom(fd, buf, 0); err == nil {
				s.question(a, buf[:n], from)
			}
		case protocol.SocketDocker:
			var n int
			if n, err = unix.Read(fd, buf); err == nil {
				a.relay.deliver(buf[:n])
			}
		case protocol.SocketTCP:
			err = s.accept(a)
		}
	}
	switch {
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
	case a.kind == protocol.SocketDocker:
		a.relay.lose()
	default:
		s.unwatch(fd)
		a.relay.fail(fmt.Errorf("the socket for questions in sandbox %s: %w", a.sandbox, err))
	}
}

// unwatch has poll wait for a descriptor no more. One that has failed may be ready for ever: a container can destroy
// the sockets in its namespace. The caller holds the lock.
func (s *Server) unwatch(fd int) {
	delete(s.asked, fd)
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil) // it is open, and in there
}

// question answers a question by UDP or passes it on. What is no question is dropped.
func (s *Server) question(a asker, message []byte, from unix.Sockaddr) {
	if !isQuestion(message) {
		return
	}
	if answer := s.answer(a, message, false); answer != nil {
		a.relay.send(answer, from)
	} else {
		a.relay.pass(message, from)
	}
}

// answer returns the answer to a sandbox's question, which came by TCP or by UDP; nil: Docker's resolver is to be
// asked, also what weave does not understand. The caller holds the lock.
func (s *Server) answer(a asker, message []byte, byTCP bool) []byte {
	q, err := parseQuestion(message)
	if err == nil {
		if byTCP {
			q.limit = maxMessage
		}
		var answer []byte
		if answer, err = s.directory.answer(q, s.wanted[a.sandbox], q.limit); err == nil {
			return answer
		}
	}
	s.o.Log.WithError(err).WithField("sandbox", a.sandbox).Debug("names: no answer, Docker's resolver is asked")
	return nil
}

// accept accepts a connection.
func (s *Server) accept(a asker) error {
	fd, _, err := unix.Accept4(a.relay.sockets[protocol.SocketTCP], unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if errors.Is(err, unix.ECONNABORTED) {
		return nil // only this connection is gone
	}
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), "connection of a container")
	defer f.Close() // conn has a descriptor of its own
	if len(a.relay.streams) >= maxConnections {
		return nil
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return err
	}
	a.relay.streams[conn] = true
	s.inside.Go(func() {
		s.serve(a, conn)
		conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(a.relay.streams, conn)
	})
	return nil
}

// serve answers what is asked over a connection, until the client is silent for a while or says what is no question.
func (s *Server) serve(a asker, conn net.Conn) {
	for {
		if err := conn.SetDeadline(time.Now().Add(askTime)); err != nil {
			return
		}
		message, err := readMessage(conn)
		if err != nil || !isQuestion(message) {
			return
		}
		s.mu.Lock()
		answer := s.answer(a, message, true)
		s.mu.Unlock()
		if answer == nil {
			if answer, err = a.relay.askStream(message); err != nil {
				s.o.Log.WithError(err).WithField("sandbox", a.sandbox).Debug("names: no answer")
				answer = failure(message)
			}
		}
		err = errors.Join(conn.SetDeadline(time.Now().Add(askTime)), writeMessage(conn, answer))
		if err != nil {
			s.o.Log.WithError(err).WithField("sandbox", a.sandbox).Debug("names: no answer")
			return
		}
	}
}
