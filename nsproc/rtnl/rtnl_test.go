// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// datagram is what the fake kernel sends at once: messages that answer the current request.
type datagram []answer

type answer struct {
	typ, flags uint16
	payload    []byte
	stale      bool // the answer to an earlier request
}

// fakeKernel returns a connection to a fake kernel, which answers each request with the next script.
func fakeKernel(t *testing.T, scripts ...[]datagram) *Conn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fds[1])
		request := make([]byte, 1<<16)
		for _, script := range scripts {
			if n, err := unix.Read(fds[1], request); err != nil || n == 0 {
				return
			}
			seq := native.Uint32(request[8:])
			for _, d := range script {
				var b []byte
				for _, a := range d {
					s := seq
					if a.stale {
						s--
					}
					b = append(b, message(a.typ, a.flags, s, a.payload)...)
				}
				if _, err := unix.Write(fds[1], b); err != nil {
					return
				}
			}
		}
	}()
	c := newConn(fds[0])
	c.strict = true
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return c
}

const interrupted = unix.NLM_F_MULTI | unix.NLM_F_DUMP_INTR

var (
	data = func(s string) answer {
		return answer{typ: unix.RTM_NEWLINK, flags: unix.NLM_F_MULTI, payload: []byte(s)}
	}
	cut    = func(s string) answer { return answer{typ: unix.RTM_NEWLINK, flags: interrupted, payload: []byte(s)} }
	end    = answer{typ: unix.NLMSG_DONE, flags: unix.NLM_F_MULTI, payload: make([]byte, 4)}
	cutEnd = answer{typ: unix.NLMSG_DONE, flags: interrupted, payload: make([]byte, 4)}
	refuse = func(typ uint16, e unix.Errno) answer {
		return answer{typ: typ, payload: native.AppendUint32(nil, uint32(-int32(e)))}
	}
	old     = func(a answer) answer { a.stale = true; return a }
	noop    = answer{typ: unix.NLMSG_NOOP}
	tooLong = data(string(make([]byte, bufferSize)))
)

func TestDump(t *testing.T) {
	whole := []datagram{{data("1111"), data("2222")}, {data("3333")}, {end}}
	all := []string{"1111", "2222", "3333"}
	errOther := errors.New("any")
	for _, tc := range []struct {
		name    string
		scripts [][]datagram
		want    []string
		err     error
	}{
		{"in several pieces", [][]datagram{whole}, all, nil},
		{"empty", [][]datagram{{{end}}}, nil, nil},
		{"beside answers to an earlier request",
			[][]datagram{{{old(data("xxxx")), old(end), noop, data("1111")}, {end}}}, []string{"1111"}, nil},
		{"interrupted once", [][]datagram{{{data("1111")}, {cut("3333")}, {end}}, whole}, all, nil},
		{"interrupted, said only at the end", [][]datagram{{{data("1111")}, {cutEnd}}, whole}, all, nil},
		{"interrupted four times", [][]datagram{{{cutEnd}}, {{cutEnd}}, {{cutEnd}}, {{cutEnd}}, whole}, all, nil},
		{"interrupted each time",
			[][]datagram{{{cutEnd}}, {{cutEnd}}, {{cutEnd}}, {{cutEnd}}, {{cutEnd}}, whole}, nil, ErrInterrupted},
		{"refused at once", [][]datagram{{{refuse(unix.NLMSG_ERROR, unix.EPERM)}}}, nil, unix.EPERM},
		{"refused at the end", [][]datagram{{{data("1111")}, {refuse(unix.NLMSG_DONE, unix.EINVAL)}}}, nil, ErrRefused},
		{"too long a message", [][]datagram{{{tooLong}, {end}}}, nil, errOther},
		{"the other side closes", [][]datagram{{{data("1111")}}}, nil, errOther},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := fakeKernel(t, tc.scripts...)
			var got []string
			err := c.dump(unix.RTM_GETLINK, nil, func() { got = nil }, func(m Message) error {
				got = append(got, string(m.Payload))
				return nil
			})
			switch {
			case tc.err == errOther && err == nil, tc.err != errOther && !errors.Is(err, tc.err):
				t.Fatalf("got error %v, want %v", err, tc.err)
			case err == nil:
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Error("(-want +got)\n", diff)
				}
			}
		})
	}
}

// The links of another namespace, as those of the host from a kernel that ignores the target, must not be taken for the
// target's.
func TestAnswerForAnotherNamespace(t *testing.T) {
	here := answer{typ: unix.RTM_NEWLINK, flags: unix.NLM_F_MULTI, payload: make([]byte, unix.SizeofIfInfomsg)}
	other := here
	other.payload = appendAttr32(bytes.Clone(here.payload), unix.IFLA_TARGET_NETNSID, 8)
	for _, a := range []answer{here, other} {
		c := fakeKernel(t, []datagram{{a}, {end}})
		if links, err := c.Links(7); !errors.Is(err, ErrNoTarget) {
			t.Errorf("got %v and error %v, want ErrNoTarget", links, err)
		}
	}
	c := fakeKernel(t)
	c.strict = false
	if _, err := c.Links(7); !errors.Is(err, ErrNoTarget) {
		t.Errorf("without strict checking: got error %v, want ErrNoTarget", err)
	}
}

// After an error in decoding the rest of the dump is read, so that the next request gets its own answer.
func TestDumpIsReadToItsEnd(t *testing.T) {
	c := fakeKernel(t, []datagram{{data("1111")}, {data("2222")}, {end}}, []datagram{{data("3333")}, {end}})
	boom := errors.New("boom")
	if err := c.dump(unix.RTM_GETLINK, nil, func() {}, func(Message) error { return boom }); err != boom {
		t.Fatalf("got error %v, want the decoder's", err)
	}
	var got string
	err := c.dump(unix.RTM_GETLINK, nil, func() {}, func(m Message) error { got += string(m.Payload); return nil })
	if err != nil || got != "3333" {
		t.Errorf("got %q and error %v, want the second answer", got, err)
	}
}

func TestNamespaceIDLostRace(t *testing.T) {
	id := func(n int32) []datagram {
		return []datagram{
			{{typ: unix.RTM_NEWNSID, payload: appendAttr32(make([]byte, sizeofGenMsg), unix.NETNSA_NSID, uint32(n))}},
		}
	}
	c := fakeKernel(t, id(-1), []datagram{{refuse(unix.NLMSG_ERROR, unix.EEXIST)}}, id(4))
	if got, err := c.NamespaceID(9); got != 4 || err != nil {
		t.Errorf("got %d and error %v, want the id that was assigned meanwhile", got, err)
	}
	c = fakeKernel(t, id(-1), []datagram{{refuse(unix.NLMSG_ERROR, unix.EPERM)}})
	if _, err := c.NamespaceID(9); !errors.Is(err, unix.EPERM) || !errors.Is(err, ErrRefused) {
		t.Errorf("got error %v, want EPERM", err)
	}
}

// Only a complete dump is decoded.
func TestDecodeRefuses(t *testing.T) {
	one := message(unix.RTM_NEWLINK, unix.NLM_F_MULTI, 1, make([]byte, unix.SizeofIfInfomsg))
	end := message(unix.NLMSG_DONE, 0, 0, nil)
	good := slices.Concat(one, end)
	if s, err := Decode(good); err != nil || len(s.Links) != 1 {
		t.Fatalf("got %+v and error %v, want one link", s, err)
	}
	for name, b := range map[string][]byte{
		"empty":             nil,
		"without its end":   one,
		"cut":               good[:len(good)-1],
		"after its end":     slices.Concat(good, one),
		"of another type":   slices.Concat(message(unix.RTM_NEWQDISC, 0, 1, nil), end),
		"a short message":   slices.Concat(message(unix.RTM_NEWADDR, 0, 1, nil), end),
		"text, not netlink": []byte(`{"version":1}`),
	} {
		if s, err := Decode(b); err == nil {
			t.Errorf("%s: got %+v", name, s)
		}
	}
}
