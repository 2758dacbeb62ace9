// SPDX-License-Identifier: Apache-2.0

package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/nsproc/protocol"
)

// TestAsk: what a resolver in the sandbox says of a name.
func TestAsk(t *testing.T) {
	p := newPair(t)
	if _, err := p.ask(t, t.Context(), "db", false); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("without a resolver: %v", err)
	}
	p.resolve(t)
	for name, tc := range map[string]struct {
		ipv6 bool
		want []string
		err  string
	}{
		"db":     {false, []string{"10.32.0.3", "10.32.0.9"}, ""},
		"db6":    {true, []string{"fd00::3"}, ""},
		"nobody": {false, nil, errNoName.Error()},
		"empty":  {false, nil, errNoName.Error()},
		"broken": {false, nil, "RCodeServerFailure"},
	} {
		got, err := p.ask(t, t.Context(), name, tc.ipv6)
		var want []netip.Addr
		for _, a := range tc.want {
			want = append(want, netip.MustParseAddr(a))
		}
		if !slices.Equal(got, want) || !strings.Contains(fmt.Sprint(err), cmp.Or(tc.err, "<nil>")) {
			t.Errorf("%s is %v, error %v, want %v, %q", name, got, err, want, tc.err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.ask(t, ctx, "silent", false); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	if _, err := p.ask(t, t.Context(), "silent", false); !errors.Is(err, errNoAnswer) {
		t.Errorf("without an answer: %v", err)
	}
	if _, err := p.ask(t, t.Context(), strings.Repeat("x", 300), false); err == nil {
		t.Error("a name that is too long is asked for")
	}
}

// ask asks from the second namespace.
func (p pair) ask(t *testing.T, ctx context.Context, name string, ipv6 bool) ([]netip.Addr, error) {
	t.Helper()
	sockets, err := p.launcher.Probes(t.Context(), p.second.Path(), ipv6)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range sockets {
		defer unix.Close(fd)
	}
	return askFor(ctx, sockets[protocol.SocketAsk], name, ipv6)
}

// resolve answers in the second namespace as Docker's resolver does, until t ends.
func (p pair) resolve(t *testing.T) {
	var conn net.PacketConn
	p.second.Do(t, func() (err error) {
		conn, err = net.ListenPacket("udp4", resolver.String())
		return err
	})
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close() // the reader below sees it
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			for _, forged := range []bool{true, false} {
				if b := answerOf(m, forged); b != nil {
					_, _ = conn.WriteTo(b, from)
				}
			}
		}
	}()
}

// answerOf returns the answer to a question; nil: there is none. A forged one is not to that question.
func answerOf(m dnsmessage.Message, forged bool) []byte {
	m.Response = true
	q := m.Questions[0]
	header := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 5}
	add := func(b dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: header, Body: b})
	}
	switch {
	case q.Name.String() == "silent.":
		return nil
	case forged:
		m.ID++
		add(&dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}})
	case q.Name.String() == "db." && q.Type == dnsmessage.TypeA:
		add(&dnsmessage.AResource{A: [4]byte{10, 32, 0, 3}})
		add(&dnsmessage.AResource{A: [4]byte{10, 32, 0, 9}})
	case q.Name.String() == "db6." && q.Type == dnsmessage.TypeAAAA:
		add(&dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("fd00::3").As16()})
	case q.Name.String() == "nobody.":
		m.RCode = dnsmessage.RCodeNameError
	case q.Name.String() == "broken.":
		m.RCode = dnsmessage.RCodeServerFailure
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}
