// SPDX-License-Identifier: Apache-2.0

package names

import (
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
)

// newServer returns a Server that runs until stop is called or the test ends.
func newServer(t testing.TB) (s *Server, stop func()) {
	t.Helper()
	l, err := launch.New(launch.Options{Path: nstest.Nsproc(t), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	log, _ := logrustest.NewNullLogger()
	if s, err = New(Options{Launcher: l, Log: logrus.NewEntry(log)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// docker answers in the namespace, by UDP and TCP, as Docker's resolver does: everything is at 192.0.2.1.
func docker(t *testing.T, ns *nstest.NS) {
	t.Helper()
	answer := func(message []byte) []byte {
		q, err := parseQuestion(message)
		if err != nil {
			t.Errorf("Docker's resolver was asked %x: %v", message, err)
			return nil
		}
		out, err := q.addresses(addrs("192.0.2.1"), maxMessage)
		if err != nil {
			t.Error(err)
		}
		return out
	}
	nstest.Resolver(t, ns, answer, func(c net.Conn) {
		if message, err := readMessage(c); err == nil {
			_ = writeMessage(c, answer(message))
		}
	})
}

// lookup asks 127.0.0.11 inside the namespace for the addresses of a name, and returns what show does, "error" if there
// is no answer.
func lookup(t *testing.T, ns *nstest.NS, network, name string) []string {
	t.Helper()
	if answer := exchangeIn(t, ns, network, ask(t, name, dnsmessage.TypeA, 0)); answer != nil {
		return show(t, answer)
	}
	return []string{"error"}
}

// exchangeIn sends 127.0.0.11 a message inside the namespace, and returns the answer; nil: there is none.
func exchangeIn(t *testing.T, ns *nstest.NS, network string, message []byte) []byte {
	t.Helper()
	var conn net.Conn
	ns.Do(t, func() (err error) {
		conn, err = net.DialTimeout(network, "127.0.0.11:53", 10*time.Second)
		return err
	})
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if network == "tcp4" {
		if err := writeMessage(conn, message); err != nil {
			return nil
		}
		answer, err := readMessage(conn)
		if err != nil {
			return nil
		}
		return answer
	}
	if _, err := conn.Write(message); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, maxMessage)
	n, err := conn.Read(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// relays returns the relays that are open, by sandbox.
func relays(s *Server) map[string]*relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := map[string]*relay{}
	for _, a := range s.asked {
		open[a.sandbox] = a.relay
	}
	return open
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// TestServer: in a sandbox on a network of the cluster its names are answered, and the others by Docker's resolver, by
// UDP and TCP; in others, after the container has left, and when weave has ended, all are Docker's.
func TestServer(t *testing.T) {
	s, stop := newServer(t)
	ns, other := nstest.New(t), nstest.New(t)
	docker(t, ns)
	docker(t, other)
	on := map[string][]Attachment{ns.Path(): {{Network: "app", Name: "app"}}}
	s.SetNetwork("app", []Endpoint{{Names: []string{"b1"}, Addresses: addrs("10.0.0.2")}})
	s.SetSandboxes(on)
	is := func(ns *nstest.NS, network, name string, want ...string) bool {
		t.Helper()
		return slices.Equal(lookup(t, ns, network, name), want)
	}
	eventually(t, "names", func() bool { return is(ns, "udp4", "b1.", "10.0.0.2") })
	for _, network := range []string{"udp4", "tcp4"} {
		for range 3 {
			for name, want := range map[string]string{"b1.": "10.0.0.2", "example.com.": "192.0.2.1"} {
				if got := lookup(t, ns, network, name); !slices.Equal(got, []string{want}) {
					t.Errorf("%s by %s: %v, want %s", name, network, got, want)
				}
			}
		}
		if got := lookup(t, other, network, "b1."); !slices.Equal(got, []string{"192.0.2.1"}) {
			t.Errorf("in a sandbox that is on no network of the cluster, by %s: %v", network, got)
		}
	}
	s.SetNetwork("app", []Endpoint{{Names: []string{"b1"}, Addresses: addrs("10.0.0.3")}})
	if !is(ns, "udp4", "b1.", "10.0.0.3") {
		t.Error("a change of the network is not answered at once")
	}
	// For longer than the table waits, so that it has heard that the server is there.
	for start := time.Now(); time.Since(start) < 3*refreshTime; {
		if got := lookup(t, ns, "udp4", "b1."); !slices.Equal(got, []string{"10.0.0.3"}) {
			t.Fatalf("after %v: %v", time.Since(start), got)
		}
	}
	s.SetSandboxes(nil)
	eventually(t, "Docker's names", func() bool { return is(ns, "udp4", "b1.", "192.0.2.1") })
	s.SetSandboxes(on)
	eventually(t, "names again", func() bool { return is(ns, "udp4", "b1.", "10.0.0.3") })
	if p := s.Problems(); len(p) > 0 {
		t.Errorf("problems: %q", p)
	}
	stop()
	if !is(ns, "udp4", "b1.", "192.0.2.1") || !is(ns, "tcp4", "b1.", "192.0.2.1") {
		t.Error("names are not Docker's after the end")
	}
	for fd, a := range s.asked {
		t.Errorf("descriptor %d of %s is left", fd, a.sandbox)
	}
}

// newSandbox returns a server, and a sandbox with names of its own in which it answers that b1 is 10.0.0.2.
func newSandbox(t *testing.T) (*Server, *nstest.NS) {
	t.Helper()
	s, _ := newServer(t)
	ns := nstest.New(t)
	docker(t, ns)
	s.SetNetwork("app", []Endpoint{{Names: []string{"b1"}, Addresses: addrs("10.0.0.2")}})
	s.SetSandboxes(map[string][]Attachment{ns.Path(): {{Network: "app", Name: "app"}}})
	eventually(t, "names", func() bool { return slices.Equal(lookup(t, ns, "udp4", "b1."), []string{"10.0.0.2"}) })
	return s, ns
}

// TestSandboxThatIsGone: a sandbox that Docker has not any more is left without a word of Docker's, so that its
// namespace goes.
func TestSandboxThatIsGone(t *testing.T) {
	s, ns := newSandbox(t)
	ns.File().Close()
	eventually(t, "nothing is open", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.asked) == 0
	})
	if p := s.Problems(); len(p) > 0 {
		t.Errorf("problems: %q", p)
	}
}

// TestManyQuestions: questions of many clients at once with the same id each get their own answer, and what is no
// question disturbs nobody.
func TestManyQuestions(t *testing.T) {
	_, ns := newSandbox(t)
	var clients []net.Conn
	ns.Do(t, func() error {
		for range 128 {
			conn, err := net.DialTimeout("udp4", "127.0.0.11:53", 10*time.Second)
			if err != nil {
				return err
			}
			t.Cleanup(func() { conn.Close() })
			if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
				return err
			}
			clients = append(clients, conn)
		}
		return nil
	})
	name := func(i int) string { return strings.Repeat("x", 1+i%60) + ".example." }
	for i, conn := range clients {
		for _, message := range [][]byte{[]byte("nonsense"), ask(t, name(i), dnsmessage.TypeA, 0)} {
			if _, err := conn.Write(message); err != nil {
				t.Fatal(err)
			}
		}
	}
	buf := make([]byte, maxMessage)
	for i, conn := range clients {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(buf[:n]); err != nil {
			t.Fatal(err)
		}
		if m.ID != 7 || m.Questions[0].Name.String() != name(i) {
			t.Errorf("client %d asked for %s, got id %d and %s", i, name(i), m.ID, m.Questions[0].Name)
		}
	}
}

// TestProblems: it is told where names of other hosts are not known, and why.
func TestProblems(t *testing.T) {
	s, _ := newServer(t)
	s.SetSandboxes(map[string][]Attachment{"/nowhere/at/all": {{Network: "app"}}})
	s.mu.Lock()
	s.tooOld = launch.ErrHost
	s.mu.Unlock()
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], "only by address") {
		t.Errorf("problems of a kernel that is too old: %q", p)
	}
	s.mu.Lock()
	s.tooOld, s.most = nil, 0
	s.mu.Unlock()
	if p := s.Problems(); len(p) != 1 || !strings.Contains(p[0], "LimitNOFILE") {
		t.Errorf("problems of too few descriptors: %q", p)
	}
}
