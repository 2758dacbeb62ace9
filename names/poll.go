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
	for i := 0; ok && i < atOnce; i++ {
		switch a.kind {
		case protocol.SocketUDP:
			n, from, err := unix.Recvfrom(fd, buf, 0)
			if ok = err == nil; ok {
				s.question(a, buf[:n], from)
			}
		case protocol.SocketDocker:
			n, err := unix.Read(fd, buf)
			if ok = err == nil; ok {
				a.relay.deliver(buf[:n])
			} else if !errors.Is(err, unix.EAGAIN) {
				a.relay.lose()
			}
		case protocol.SocketTCP:
			ok = s.accept(a)
		}
	}
}

// question answers a question by UDP or passes it on. What is no question is dropped.
func (s *Server) question(a asker, message []byte, from unix.Sockaddr) {
	q, err := parseQuestion(message)
	if err != nil {
		return
	}
	switch answer, err := s.directory.answer(q, s.wanted[a.sandbox], q.limit); {
	case err != nil:
		s.o.Log.WithError(err).WithField("sandbox", a.sandbox).Debug("names: no answer")
	case answer == nil:
		a.relay.pass(message, from)
	default:
		a.relay.send(answer, from)
	}
}

// accept accepts a connection and reports whether there was one.
func (s *Server) accept(a asker) bool {
	fd, _, err := unix.Accept4(a.relay.sockets[protocol.SocketTCP], unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), "connection of a container")
	defer f.Close() // conn has a descriptor of its own
	if len(a.relay.streams) >= maxConnections {
		return true
	}
	conn, err := net.FileConn(f)
	if err != nil {
		return true
	}
	a.relay.streams[conn] = true
	s.inside.Go(func() {
		s.serve(a, conn)
		conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(a.relay.streams, conn)
	})
	return true
}

// serve answers what is asked over a connection, until the client is silent for a while or says what is no question.
func (s *Server) serve(a asker, conn net.Conn) {
	for {
		if err := conn.SetDeadline(time.Now().Add(askTime)); err != nil {
			return
		}
		message, err := readMessage(conn)
		if err != nil {
			return
		}
		q, err := parseQuestion(message)
		if err != nil {
			return
		}
		s.mu.Lock()
		answer, err := s.directory.answer(q, s.wanted[a.sandbox], maxMessage)
		s.mu.Unlock()
		if err == nil && answer == nil {
			answer, err = a.relay.askStream(message)
		}
		if err == nil {
			err = errors.Join(conn.SetDeadline(time.Now().Add(askTime)), writeMessage(conn, answer))
		}
		if err != nil {
			s.o.Log.WithError(err).WithField("sandbox", a.sandbox).Debug("names: no answer")
			return
		}
	}
}
