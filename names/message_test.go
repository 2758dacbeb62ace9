// SPDX-License-Identifier: Apache-2.0

package names

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/dns/dnsmessage"
)

func addrs(texts ...string) (out []netip.Addr) {
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// known is a directory of two networks.
func known() directory {
	return directory{
		"app": newZone([]Endpoint{
			{Names: []string{"a1", "web"}, Addresses: addrs("10.0.0.1"), Here: true},
			{Names: []string{"only-here"}, Addresses: addrs("10.0.0.9"), Here: true},
			{Names: []string{"b1", "Web", "svc.example"}, Addresses: addrs("10.0.0.2", "fd00::2")},
			{Names: []string{"b2", "web"}, Addresses: addrs("10.0.0.3", "fd00::3")},
			{Addresses: addrs("10.0.0.4")}, // its name is not known yet
		}),
		"db": newZone([]Endpoint{{Names: []string{"pg", "web"}, Addresses: addrs("10.1.0.1")}}),
	}
}

var (
	onApp  = []Attachment{{Network: "app", Name: "app"}}
	onBoth = []Attachment{{Network: "db", Name: "here-db"}, {Network: "app", Name: "app"}}
)

// ask encodes a question.
func ask(t testing.TB, name string, typ dnsmessage.Type, opt int) []byte {
	t.Helper()
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: 7, RecursionDesired: true})
	err := b.StartQuestions()
	if err == nil {
		err = b.Question(dnsmessage.Question{
			Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET,
		})
	}
	if err == nil && opt > 0 {
		var h dnsmessage.ResourceHeader
		if err = h.SetEDNS0(opt, dnsmessage.RCodeSuccess, false); err == nil {
			if err = b.StartAdditionals(); err == nil {
				err = b.OPTResource(h, dnsmessage.OPTResource{})
			}
		}
	}
	message, finishErr := b.Finish()
	if err != nil || finishErr != nil {
		t.Fatal(err, finishErr)
	}
	return message
}

// show returns what an answer has, sorted, and whether it is truncated; "docker": Docker's resolver is to be asked.
func show(t testing.TB, answer []byte) []string {
	t.Helper()
	if answer == nil {
		return []string{"docker"}
	}
	var m dnsmessage.Message
	if err := m.Unpack(answer); err != nil {
		t.Fatal(err)
	}
	out := []string{}
	if m.RCode != dnsmessage.RCodeSuccess || !m.Response || len(m.Questions) != 1 {
		out = append(out, m.GoString())
	}
	if m.Truncated {
		out = append(out, "truncated")
	}
	for _, r := range m.Answers {
		switch body := r.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, netip.AddrFrom4(body.A).String())
		case *dnsmessage.AAAAResource:
			out = append(out, netip.AddrFrom16(body.AAAA).String())
		case *dnsmessage.PTRResource:
			out = append(out, body.PTR.String())
		}
		if r.Header.TTL > 10 {
			out = append(out, fmt.Sprint("lives for ", r.Header.TTL))
		}
	}
	slices.Sort(out)
	return out
}

func TestAnswer(t *testing.T) {
	const v4, v6, ptr = dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypePTR
	docker := []string{"docker"}
	for _, tc := range []struct {
		what string
		name string
		typ  dnsmessage.Type
		on   []Attachment
		want []string
	}{
		{"container of another host", "b1.", v4, onApp, []string{"10.0.0.2"}},
		{"its IPv6 address", "b1.", v6, onApp, []string{"fd00::2"}},
		{"any case", "B1.", v4, onApp, []string{"10.0.0.2"}},
		{"with the network's name", "b1.app.", v4, onApp, []string{"10.0.0.2"}},
		{"with the name that the network has here", "pg.here-db.", v4, onBoth, []string{"10.1.0.1"}},
		{"with the name that the network has in the cluster", "pg.db.", v4, onBoth, docker},
		{"alias with a dot", "svc.example.", v4, onApp, []string{"10.0.0.2"}},
		{"alias on both hosts", "web.", v4, onApp, []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}},
		{"no address of the family", "pg.", v6, onBoth, []string{}},
		{"another type", "b1.", dnsmessage.TypeMX, onApp, []string{}},
		{"name on two networks", "web.", v4, onBoth, []string{"10.1.0.1"}},
		{"network that the asker is not on", "pg.", v4, onApp, docker},
		{"asker that is on none", "b1.", v4, nil, docker},
		{"container of this host", "only-here.", v4, onApp, docker},
		{"container of this host, by its own name", "a1.", v4, onApp, docker},
		{"name of the outside", "example.com.", v4, onApp, docker},
		{"root", ".", v4, onApp, docker},
		{"address", "2.0.0.10.in-addr.arpa.", ptr, onApp, []string{"b1.app."}},
		{"address of IPv6", "3." + strings.Repeat("0.", 27) + "0.d.f.ip6.arpa.", ptr, onApp, docker},
		{"whole address of IPv6", "3." + strings.Repeat("0.", 28) + "0.d.f.ip6.arpa.", ptr, onApp, []string{"b2.app."}},
		{"address of this host", "1.0.0.10.in-addr.arpa.", ptr, onApp, docker},
		{"address without a name", "4.0.0.10.in-addr.arpa.", ptr, onApp, docker},
		{"half an address", "0.10.in-addr.arpa.", ptr, onApp, docker},
		{"no address", "x.in-addr.arpa.", ptr, onApp, docker},
	} {
		t.Run(tc.what, func(t *testing.T) {
			for _, opt := range []int{0, 1232} {
				q, err := parseQuestion(ask(t, tc.name, tc.typ, opt))
				if err != nil {
					t.Fatal(err)
				}
				answer, err := known().answer(q, tc.on, q.limit)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.want, show(t, answer)); diff != "" {
					t.Error("(-want +got)\n", diff)
				}
			}
		})
	}
}

// TestPointerWithoutName: an address that has no name for DNS, since the network has none, is left to Docker.
func TestPointerWithoutName(t *testing.T) {
	q, err := parseQuestion(ask(t, "2.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, 0))
	if err != nil {
		t.Fatal(err)
	}
	for network, want := range map[string]string{
		"": "docker", "my..net": "docker", strings.Repeat("n", 64): "docker", strings.Repeat("n.", 126) + "n": "docker",
		strings.Repeat("n", 63):          "b1." + strings.Repeat("n", 63) + ".",
		strings.Repeat("n.", 124) + "nn": "b1." + strings.Repeat("n.", 124) + "nn.",
	} {
		answer, err := known().answer(q, []Attachment{{Network: "app", Name: network}}, q.limit)
		if err != nil {
			t.Errorf("network %q: %v", network, err)
		} else if got := show(t, answer); !slices.Equal(got, []string{want}) {
			t.Errorf("network %q: %v, want %s", network, got, want)
		}
	}
}

// TestRotation: over several answers each address is the first one.
func TestRotation(t *testing.T) {
	all, first := addrs("10.0.0.1", "10.0.0.2", "fd00::1", "10.0.0.3"), map[netip.Addr]bool{}
	for range 1000 {
		got := rotated(all, false)
		first[got[0]] = true
		slices.SortFunc(got, netip.Addr.Compare)
		if diff := cmp.Diff(addrs("10.0.0.1", "10.0.0.2", "10.0.0.3"), got, cmp.Comparer(func(a, b netip.Addr) bool {
			return a == b
		})); diff != "" {
			t.Fatal("(-want +got)\n", diff)
		}
	}
	if len(first) != 3 {
		t.Errorf("%v were first, want each of three", first)
	}
}

// TestManyAddresses: what does not fit is told by TCP.
func TestManyAddresses(t *testing.T) {
	var all []Endpoint
	for i := range 1000 {
		addr := netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
		all = append(all, Endpoint{Names: []string{"web"}, Addresses: []netip.Addr{addr}})
	}
	d := directory{"app": newZone(all)}
	for _, tc := range []struct{ opt, limit, want int }{
		{0, 0, 30}, {1232, 0, 75}, {65535, 0, 254}, {0, maxMessage, 1000},
	} {
		q, err := parseQuestion(ask(t, "web.", dnsmessage.TypeA, tc.opt))
		if err != nil {
			t.Fatal(err)
		}
		limit := max(tc.limit, q.limit)
		answer, err := d.answer(q, onApp, limit)
		if err != nil {
			t.Fatal(err)
		}
		got := show(t, answer)
		truncated := slices.Contains(got, "truncated")
		got = slices.DeleteFunc(got, func(s string) bool { return s == "truncated" })
		if len(answer) > limit || len(got) != tc.want || truncated != (tc.want < len(all)) {
			t.Errorf("%+v: %d addresses in %d bytes, truncated %v", tc, len(got), len(answer), truncated)
		}
	}
}

func TestNoQuestion(t *testing.T) {
	good := ask(t, "b1.", dnsmessage.TypeA, 1232)
	answer := slices.Clone(good)
	answer[2] |= 0x80
	two := slices.Clone(good)
	two[5] = 2
	for name, message := range map[string][]byte{
		"nothing": nil, "a half": good[:len(good)/2], "cut off": good[:len(good)-1], "an answer": answer,
		"two questions": two,
	} {
		if q, err := parseQuestion(message); err == nil {
			t.Errorf("%s: taken for %+v", name, q.what)
		}
	}
}

// TestFailure: of whatever a container sends, the answer that there is none has the question as far as it can be made
// out.
func TestFailure(t *testing.T) {
	good := ask(t, "b1.", dnsmessage.TypeA, 1232)
	two := slices.Concat(ask(t, "b1.", dnsmessage.TypeA, 0), []byte{1, 'a', 0, 0, 28, 0, 1})
	two[5] = 2
	for name, tc := range map[string]struct {
		message   []byte
		questions int
	}{
		"one question": {good, 1}, "two questions": {two, 1}, "cut off": {good[:headerSize+3], 0},
		"header":                 {good[:headerSize], 0},
		"label that is too long": {append(good[:headerSize:headerSize], 64, 0, 0, 0), 0},
	} {
		var m dnsmessage.Message
		if err := m.Unpack(failure(tc.message)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.ID != 7 || !m.Response || m.RCode != dnsmessage.RCodeServerFailure || len(m.Questions) != tc.questions {
			t.Errorf("%s: %s, want %d questions", name, m.GoString(), tc.questions)
		}
	}
}

// TestIsAnswer: what is passed on as an answer is one to the question that was asked.
func TestIsAnswer(t *testing.T) {
	message := func(name string, typ dnsmessage.Type) []byte {
		q, err := parseQuestion(ask(t, name, typ, 0))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := q.addresses(addrs("192.0.2.1"), maxMessage)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	question := head(ask(t, "b1.", dnsmessage.TypeA, 1232))
	for name, tc := range map[string]struct {
		message []byte
		want    bool
	}{
		"answer":                 {message("b1.", dnsmessage.TypeA), true},
		"in another case":        {message("B1.", dnsmessage.TypeA), true},
		"failure":                {failure(question), true},
		"answer of a header":     {failure(question)[:headerSize], true},
		"of another name":        {message("b2.", dnsmessage.TypeA), false},
		"of a longer name":       {message("b1.app.", dnsmessage.TypeA), false},
		"of another type":        {message("b1.", dnsmessage.TypeAAAA), false},
		"the question":           {question, false},
		"header of the question": {question[:headerSize], false},
	} {
		if got := isAnswer(tc.message, question); got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// FuzzAnswer: whatever a container sends, the answer is one to its question, and no longer than it may be.
func FuzzAnswer(f *testing.F) {
	f.Add(ask(f, "b1.", dnsmessage.TypeA, 0))
	f.Add(ask(f, "WEB.app.", dnsmessage.TypeAAAA, 1232))
	f.Add(ask(f, "2.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, 4096))
	d := known()
	f.Fuzz(func(t *testing.T, message []byte) {
		q, err := parseQuestion(message)
		if err != nil {
			return
		}
		answer, err := d.answer(q, onBoth, q.limit)
		if err != nil || answer == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(answer); err != nil {
			t.Fatal(err)
		}
		if m.ID != q.header.ID || !m.Response || len(m.Questions) != 1 || m.Questions[0] != q.what ||
			len(answer) > q.limit {
			t.Errorf("%x got %x", message, answer)
		}
	})
}
