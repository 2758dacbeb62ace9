// SPDX-License-Identifier: Apache-2.0

package names

import (
	"bytes"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// TestManyWaiting: questions that Docker's resolver does not answer keep nobody from asking others.
func TestManyWaiting(t *testing.T) {
	s, _ := newServer(t)
	ns := nstest.New(t)
	nstest.Resolver(t, ns, func(message []byte) []byte {
		q, err := parseQuestion(message)
		if err != nil || strings.HasPrefix(q.what.Name.String(), "slow") {
			return nil // nothing that is taken for an answer
		}
		answer, err := q.addresses(addrs("192.0.2.1"), maxMessage)
		if err != nil {
			t.Error(err)
		}
		return answer
	}, func(net.Conn) {})
	s.SetNetwork("app", []Endpoint{{Names: []string{"b1"}, Addresses: addrs("10.0.0.2")}})
	s.SetSandboxes(on(ns))
	eventually(t, "names", func() bool { return knowsB1(t, ns) })
	r := relays(s)[ns.Path()]
	for i := range maxWaiting + 10 {
		question := ask(t, fmt.Sprintf("slow%d.", i), dnsmessage.TypeA, 0)
		s.mu.Lock()
		r.pass(question, &unix.SockaddrInet4{})
		if n := len(r.waiting); n > maxWaiting {
			t.Errorf("%d questions wait, want %d at most", n, maxWaiting)
		}
		s.mu.Unlock()
	}
	if got := lookup(t, ns, "udp4", "fast."); !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Errorf("a question that Docker's resolver answers got %v", got)
	}
}

// TestNotUnderstood: Docker's resolver is asked what weave does not understand, by UDP and TCP.
func TestNotUnderstood(t *testing.T) {
	dotted := append(make([]byte, headerSize), "\x0cPrinter v1.0\x05_http\x04_tcp\x07example\x00\x00\x21\x00\x01"...)
	dotted[5] = 1 // question
	two := slices.Concat(ask(t, "b1.", dnsmessage.TypeA, 0), []byte{1, 'a', 0, 0, 28, 0, 1})
	two[5] = 2
	s, _ := newServer(t)
	ns := nstest.New(t)
	nstest.Resolver(t, ns, failure, func(c net.Conn) {
		if message, err := readMessage(c); err == nil {
			_ = writeMessage(c, failure(message))
		}
	})
	s.SetNetwork("app", []Endpoint{{Names: []string{"b1"}, Addresses: addrs("10.0.0.2")}})
	s.SetSandboxes(on(ns))
	eventually(t, "names", func() bool { return knowsB1(t, ns) })
	for name, question := range map[string][]byte{
		"a label with a dot": dotted, "two questions": two, "a header": two[:headerSize],
	} {
		for _, network := range []string{"udp4", "tcp4"} {
			if got := exchangeIn(t, ns, network, question); !bytes.Equal(got, failure(question)) {
				t.Errorf("%s by %s: %x, want %x", name, network, got, failure(question))
			}
		}
	}
}

// TestNoResolver: where Docker's resolver is not there a client hears so at once, by UDP and TCP, also if it says so
// while others are waiting.
func TestNoResolver(t *testing.T) {
	s, _ := newServer(t)
	ns := nstest.New(t)
	s.SetNetwork("app", []Endpoint{{Names: []string{"b1"}, Addresses: addrs("10.0.0.2")}})
	s.SetSandboxes(on(ns))
	eventually(t, "names", func() bool { return relays(s)[ns.Path()] != nil && knowsB1(t, ns) })
	for range 3 {
		for _, network := range []string{"udp4", "tcp4"} {
			got := lookup(t, ns, network, "a1.")
			if len(got) != 1 || !strings.Contains(got[0], "RCodeServerFailure") || !strings.Contains(got[0], `"a1."`) {
				t.Errorf("by %s: %v, want a failure", network, got)
			}
		}
	}
}

// TestLateAnswer: an answer with the id of another question, which was asked after its own was forgotten, is dropped.
func TestLateAnswer(t *testing.T) {
	question := head(ask(t, "b1.", dnsmessage.TypeA, 0))
	late := failure(ask(t, "b2.", dnsmessage.TypeA, 0))
	r := &relay{
		sockets: launch.NameSockets{protocol.SocketUDP: -1}, waiting: map[uint16]waiting{7: {question: question}},
	}
	r.deliver(late)
	if len(r.waiting) != 1 {
		t.Error("a late answer was taken for that to another question")
	}
	r.deliver(failure(question))
	if len(r.waiting) != 0 {
		t.Error("the answer was dropped")
	}
}

// TestExchangeEnds: the time for an answer by TCP is that for all of it, however often a part of it comes.
func TestExchangeEnds(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		<-stopped
		unix.Close(pair[0])
		unix.Close(pair[1])
	})
	go func() {
		defer close(stopped)
		_, _ = unix.Write(pair[1], []byte{0xff, 0xff})
		for tick := time.NewTicker(10 * time.Millisecond); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = unix.Write(pair[1], []byte{0})
			}
		}
	}()
	until := time.Now().Add(200 * time.Millisecond) // for 65,535 bytes, of which one comes each 10 ms
	message, err := readMessage(socket{pair[0], until})
	if err == nil {
		t.Errorf("%d bytes came by %v", len(message), until)
	}
	if time.Now().Before(until) {
		t.Errorf("ended before the time was over: %v", err)
	}
}

// TestExchangeIsInterrupted: signals, which the runtime sends to its threads, end no exchange.
func TestExchangeIsInterrupted(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	reader := unix.Gettid()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond) // so that the reader reads again between two signals
		defer tick.Stop()
		for range 20 {
			_ = unix.Tgkill(unix.Getpid(), reader, unix.SIGURG)
			<-tick.C
		}
		_, _ = unix.Write(pair[1], []byte{0, 2, 'o', 'k'})
	}()
	message, err := readMessage(socket{pair[0], time.Now().Add(time.Minute)})
	<-ended
	if err != nil || string(message) != "ok" {
		t.Errorf("got %q and error %v, want the message", message, err)
	}
}

// TestForget: ids are given in turn, also over the last one; what has waited for too long is forgotten, and what was
// answered meanwhile makes room.
func TestForget(t *testing.T) {
	now := time.Now()
	r := &relay{
		sockets: launch.NameSockets{protocol.SocketUDP: -1}, waiting: map[uint16]waiting{}, oldest: 65534, next: 65534,
	}
	for i := range 4 {
		r.waiting[r.next] = waiting{question: make([]byte, headerSize), until: now.Add(time.Duration(i) * time.Second)}
		r.next++
	}
	for _, tc := range []struct {
		after time.Duration
		left  int
	}{{0, 3}, {time.Second, 2}, {3 * time.Second, 0}} {
		r.forget(now.Add(tc.after))
		if len(r.waiting) != tc.left {
			t.Errorf("after %v %d are left, want %d", tc.after, len(r.waiting), tc.left)
		}
	}
	if r.oldest != r.next {
		t.Errorf("nothing waits, but from %d to %d", r.oldest, r.next)
	}
}
