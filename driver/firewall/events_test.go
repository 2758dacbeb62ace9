// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

// fakeSubscription returns each of its errors once, and then waits until it is closed.
type fakeSubscription struct {
	errs   chan error
	closed chan struct{}
}

func newFakeSubscription(errs ...error) *fakeSubscription {
	s := &fakeSubscription{make(chan error, len(errs)), make(chan struct{})}
	for _, err := range errs {
		s.errs <- err
	}
	return s
}

func (s *fakeSubscription) Receive() ([]syscall.NetlinkMessage, *unix.SockaddrNetlink, error) {
	select {
	case err := <-s.errs:
		return nil, nil, err
	case <-s.closed:
		return nil, nil, errors.New("closed")
	}
}

func (s *fakeSubscription) Close() { close(s.closed) }

// TestWatchSubscribesAgain: a subscription that fails, in whatever way, is followed by another one, and each begins
// with a token, since nobody knows what happened in between.
func TestWatchSubscribesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := errors.New("no such protocol")
		attempts := []struct{ subscribe, receive error }{
			{receive: unix.ENOTCONN},
			{subscribe: refused},
			{subscribe: refused},
			{receive: errors.New("no netlink message")},
			{}, // this one lasts
		}
		log, hook := test.NewNullLogger()
		f := &Firewall{log: logrus.NewEntry(log), changed: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		made := 0
		subscribe := func() (subscription, error) {
			if made == len(attempts) {
				t.Fatal("subscribes although it is subscribed")
			}
			a := attempts[made]
			made++
			switch {
			case a.subscribe != nil:
				return nil, a.subscribe
			case a.receive != nil:
				return newFakeSubscription(a.receive), nil
			}
			return newFakeSubscription(), nil
		}
		ended := make(chan struct{})
		go func() { defer close(ended); f.watchEvents(ctx, subscribe) }()
		for i := range 3 { // as many as are subscribed
			select {
			case <-f.changed:
			case <-time.After(fullInterval):
				t.Fatalf("subscription %d brought no token", i)
			}
		}
		synctest.Wait()
		if made != len(attempts) {
			t.Errorf("subscribed %d times, want %d", made, len(attempts))
		}
		if n := warnings(hook); n != 3 {
			t.Errorf("warned %d times, want 3: once for each failure, however long it lasts", n)
		}
		cancel()
		<-ended
	})
}

func TestWatchGoesOnAfterLostEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := test.NewNullLogger()
		f := &Firewall{log: logrus.NewEntry(log), changed: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		events := &fakeSubscription{make(chan error), make(chan struct{})}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.watchEvents(ctx, func() (subscription, error) { return events, nil })
		}()
		<-f.changed // of the subscription
		events.errs <- unix.ENOBUFS
		<-f.changed
		if n := warnings(hook); n != 0 {
			t.Errorf("warned %d times, want not at all", n)
		}
		cancel()
		<-ended
	})
}

// TestKernelReportsLostEvents: a subscription whose buffer has overflown says so first, and then goes on.
func TestKernelReportsLostEvents(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	run(t, "*filter\n:OTHER -\nCOMMIT\n", "iptables-nft-restore")
	events, err := subscribe()
	must(t, err)
	must(t, events.(*nl.NetlinkSocket).SetReceiveBufferSize(1, true)) // the kernel makes it its least, some 2 kB
	run(t, "*filter\n"+strings.Repeat("-A OTHER -j RETURN\n", 500)+"COMMIT\n", "iptables-nft-restore", "--noflush")
	if _, _, err := events.Receive(); !errors.Is(err, unix.ENOBUFS) {
		t.Errorf("Receive: %v, want %v", err, unix.ENOBUFS)
	}

	changed := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- receive(ctx, events, changed) }()
	<-changed // of the subscription
	eventually(t, "a change of FORWARD is reported", func() bool {
		run(t, "", "iptables-nft", "-A", "FORWARD", "-j", "OTHER")
		select {
		case <-changed:
			return true
		default:
			return false
		}
	})
	cancel()
	if err := <-ended; err == nil {
		t.Error("receive returns no error after its context has ended")
	}
}

// FuzzMayConcernRules: whatever bytes an event has, it counts unless it is certainly about a rule of another chain, or
// not about a rule, chain or table.
func FuzzMayConcernRules(f *testing.F) {
	ruleOf := func(in, chain string) []byte {
		table := nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(in)).Serialize()
		name := nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated(chain)).Serialize()
		return slices.Concat(make([]byte, 4), table, name)
	}
	rule := func(chain string) []byte { return ruleOf("filter", chain) }
	const nftables = unix.NFNL_SUBSYS_NFTABLES << 8
	f.Add(uint16(nftables|unix.NFT_MSG_DELRULE), rule("FORWARD"))
	f.Add(uint16(nftables|unix.NFT_MSG_NEWRULE), rule("DOCKER"))
	f.Add(uint16(nftables|unix.NFT_MSG_NEWRULE), ruleOf("docker-bridges", "raw-PREROUTING"))
	f.Add(uint16(nftables|unix.NFT_MSG_DELRULE), ruleOf("weave-aa", "input"))
	f.Add(uint16(nftables|unix.NFT_MSG_DELTABLE), []byte{})
	f.Add(uint16(nftables|unix.NFT_MSG_NEWSETELEM), rule("FORWARD"))
	f.Add(uint16(unix.NFNL_SUBSYS_CTNETLINK<<8), rule("FORWARD"))
	f.Add(uint16(nftables|unix.NFT_MSG_NEWRULE), []byte{0, 0, 0, 0, 255, 255, 2, 0})
	f.Add(uint16(nftables|unix.NFT_MSG_NEWRULE), []byte{0, 0, 0, 0, 5, 0, 7, 0, 0})
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		got := mayConcernRules(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: data})
		switch kind {
		case nftables | unix.NFT_MSG_NEWTABLE, nftables | unix.NFT_MSG_DELTABLE,
			nftables | unix.NFT_MSG_NEWCHAIN, nftables | unix.NFT_MSG_DELCHAIN:
			if !got {
				t.Errorf("event %#x does not count", kind)
			}
		case nftables | unix.NFT_MSG_NEWRULE, nftables | unix.NFT_MSG_DELRULE:
			other, wellFormed := namesOtherChain(data)
			if !got && !other || got && other && wellFormed {
				t.Errorf("rule event % x counts: %t; another chain: %t, well formed: %t", data, got, other, wellFormed)
			}
		default:
			if got {
				t.Errorf("event %#x counts", kind)
			}
		}
	})
}

// namesOtherChain reports whether a rule's event has a chain, and a table before it, that weave has no rules in, and
// whether all of it is well formed.
// It reads the attributes by hand: a header of two bytes of length and two of type, then the value, padded to four
// bytes.
func namesOtherChain(data []byte) (other, wellFormed bool) {
	named := false
	for data = data[min(4, len(data)):]; len(data) >= 4; {
		length, kind := int(binary.NativeEndian.Uint16(data)), binary.NativeEndian.Uint16(data[2:])&0x3fff
		padded := (length + 3) &^ 3
		if length < 4 || padded > len(data) {
			return other, false
		}
		value := unix.ByteSliceToString(data[4:length])
		switch {
		case named:
		case kind == unix.NFTA_RULE_TABLE && strings.HasPrefix(value, "weave-"):
			named, other = true, false
		case kind == unix.NFTA_RULE_CHAIN:
			named, other = true, !slices.Contains([]string{"FORWARD", "PREROUTING", "raw-PREROUTING"}, value)
		}
		data = data[padded:]
	}
	return other, len(data) == 0
}
