// SPDX-License-Identifier: Apache-2.0

package names

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/nft"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

const (
	// askTime is how long Docker's resolver, which may ask the outside, has for an answer. Clients wait no longer.
	askTime = 10 * time.Second
	// maxWaiting is how many questions of one sandbox may wait for Docker's resolver, as many as it asks the outside at
	// once; of more the oldest are forgotten.
	maxWaiting = 1024
	// maxConnections is how many connections of one sandbox there may be.
	maxConnections = 16
)

// relay answers in one sandbox. Its fields are guarded by the Server's lock.
type relay struct {
	sockets launch.NameSockets
	stream  *os.File           // sockets[protocol.SocketStream]
	turn    chan struct{}      // has room for whoever uses stream
	waiting map[uint16]waiting // for Docker's resolver, by the id that weave gave the question
	oldest  uint16             // of the ids that may be waiting; they are given in turn
	next    uint16             // id to give; oldest: none is waiting
	streams map[net.Conn]bool
	failed  chan error // has room for the first error after which the sockets have to be opened again
}

// waiting is a question that Docker's resolver has been asked.
type waiting struct {
	from     unix.Sockaddr
	question []byte // the head of it
	until    time.Time
}

// newRelay takes over the sockets.
func newRelay(sockets launch.NameSockets) *relay {
	id := uint16(rand.Uint32()) // which nobody guesses
	r := &relay{
		sockets: sockets, turn: make(chan struct{}, 1), waiting: map[uint16]waiting{}, oldest: id, next: id,
		streams: map[net.Conn]bool{}, failed: make(chan error, 1),
	}
	fd := sockets[protocol.SocketStream]
	r.stream = os.NewFile(uintptr(fd), "connection to Docker's resolver")
	return r
}

// close closes the sockets but for the table's. What is under way ends; the sandbox's namespace exists until it has.
func (r *relay) close() {
	for conn := range r.streams {
		conn.Close()
	}
	_ = unix.Shutdown(r.sockets[protocol.SocketStream], unix.SHUT_RDWR) // an error: it is not connected
	r.stream.Close()                                                    // when it is not used any more
	for i, fd := range r.sockets {
		if i != protocol.SocketStream && i != protocol.SocketTable {
			unix.Close(fd)
		}
	}
}

// fail says that a socket can't be used any more. The sandbox's goroutine closes all, and opens others after a while.
func (r *relay) fail(err error) {
	select {
	case r.failed <- err:
	default:
	}
}

// pass asks Docker's resolver a question that came from an address.
func (r *relay) pass(message []byte, from unix.Sockaddr) {
	now := time.Now()
	r.forget(now)
	if len(r.waiting) == 0 {
		r.reconnect()
	}
	question, id := slices.Clone(head(message)), r.next
	binary.BigEndian.PutUint16(message, id)
	_, err := unix.Write(r.sockets[protocol.SocketDocker], message)
	if err != nil { // it may be about one of the questions before
		r.lose()
		r.reconnect()
		_, err = unix.Write(r.sockets[protocol.SocketDocker], message)
	}
	if err != nil {
		r.send(failure(question), from)
		return
	}
	r.waiting[id] = waiting{from, question, now.Add(askTime)}
	r.next++
}

// forget makes room for a question: it refuses those that have waited for too long, and the oldest if there are too
// many.
func (r *relay) forget(now time.Time) {
	for ; r.oldest != r.next; r.oldest++ {
		w, ok := r.waiting[r.oldest]
		if ok && now.Before(w.until) && len(r.waiting) < maxWaiting && r.next+1 != r.oldest {
			return
		}
		if ok {
			r.refuse(r.oldest)
		}
	}
}

// refuse forgets a question and tells the client.
func (r *relay) refuse(id uint16) {
	r.send(failure(r.waiting[id].question), r.waiting[id].from)
	delete(r.waiting, id)
}

// reconnect gives the socket to Docker's resolver another port. Docker translates addresses on the way, and conntrack
// would lead a port that goes on being used to a resolver that is gone since Docker was started again.
func (r *relay) reconnect() {
	fd := r.sockets[protocol.SocketDocker]
	if err := launch.Disconnect(fd); err == nil {
		_ = unix.Connect(fd, nft.DockersResolver()) // an error shows when it is written to
	}
}

// lose refuses the questions that wait, since Docker's resolver is not there.
func (r *relay) lose() {
	for id := range r.waiting {
		r.refuse(id)
	}
}

// deliver hands an answer of Docker's resolver to the client that has asked.
func (r *relay) deliver(message []byte) {
	if len(message) < headerSize {
		return
	}
	id := binary.BigEndian.Uint16(message)
	w, ok := r.waiting[id]
	if !ok || !isAnswer(message, w.question) {
		return // a late one: its question was forgotten, and the id may have been given again
	}
	delete(r.waiting, id)
	copy(message[:2], w.question) // the client's id
	r.send(message, w.from)
}

// send sends an answer by UDP. One that gets lost is asked for again.
func (r *relay) send(message []byte, to unix.Sockaddr) {
	_ = unix.Sendto(r.sockets[protocol.SocketUDP], message, 0, to)
}

// askStream asks Docker's resolver by TCP, one question at a time. It waits for its turn no longer than for an answer.
func (r *relay) askStream(message []byte) (answer []byte, err error) {
	select {
	case r.turn <- struct{}{}:
	case <-time.After(askTime):
		return nil, fmt.Errorf("the questions before it take too long: %w", os.ErrDeadlineExceeded)
	}
	defer func() { <-r.turn }()
	raw, err := r.stream.SyscallConn()
	if err != nil {
		return nil, err
	}
	controlErr := raw.Control(func(fd uintptr) { // it stays open meanwhile
		answer, err = exchange(int(fd), message)
		err = errors.Join(err, launch.Disconnect(int(fd)))
	})
	return answer, errors.Join(controlErr, err)
}

// exchange connects the socket to Docker's resolver and asks it. All of it together has askTime.
func exchange(fd int, message []byte) ([]byte, error) {
	s := socket{fd, time.Now().Add(askTime)}
	// A connect that was interrupted goes on when it is called again.
	err := s.do(unix.SO_SNDTIMEO, func() error { return unix.Connect(fd, nft.DockersResolver()) })
	if err != nil {
		return nil, fmt.Errorf("connect to Docker's resolver: %w", err)
	}
	if err := writeMessage(s, message); err != nil {
		return nil, err
	}
	return readMessage(s)
}

// socket reads and writes a socket that blocks, until a time.
type socket struct {
	fd    int
	until time.Time
}

func (s socket) Read(b []byte) (n int, err error) {
	err = s.do(unix.SO_RCVTIMEO, func() (err error) {
		n, err = unix.Read(s.fd, b)
		return err
	})
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

func (s socket) Write(b []byte) (n int, err error) {
	err = s.do(unix.SO_SNDTIMEO, func() (err error) {
		n, err = unix.Write(s.fd, b)
		return err
	})
	if n < len(b) && err == nil {
		err = io.ErrShortWrite
	}
	return max(n, 0), err
}

// do calls what uses the socket, within the time that is left, again when a signal has interrupted it: the runtime
// sends some to its threads, and a call on a socket that has a timeout does not go on by itself after one (signal(7)).
func (s socket) do(timeout int, call func() error) error {
	for {
		if err := s.limit(timeout); err != nil {
			return err
		}
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// limit bounds what is done next, by a timeout of the socket's, with the time that is left.
func (s socket) limit(timeout int) error {
	left := time.Until(s.until).Microseconds()
	if left <= 0 { // the kernel takes zero for no limit
		return os.ErrDeadlineExceeded
	}
	tv := unix.NsecToTimeval(left * 1000)
	return unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, timeout, &tv)
}

// readMessage reads a message with its length before it, as DNS has it over TCP.
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeMessage(w io.Writer, message []byte) error {
	if len(message) > maxMessage {
		return fmt.Errorf("a message of %d bytes: %w", len(message), unix.EMSGSIZE)
	}
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}
