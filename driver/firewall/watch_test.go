package firewall

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sys/unix"
)

// TestListenDialsAnew: a subscription that fails, in whatever way, is followed by another, and each begins with a token,
// since nobody knows what happened in between.
func TestListenDialsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := []struct{ dial, receive error }{
			{receive: os.NewSyscallError("recvmsg", unix.ENOTCONN)},
			{dial: errors.New("no such protocol")},
			{dial: errors.New("no such protocol")},
			{receive: errors.New("no netlink message")},
			{}, // this one lives
		}
		log, hook := test.NewNullLogger()
		f := &Firewall{log: logrus.NewEntry(log)}
		ctx, cancel := context.WithCancel(t.Context())
		dialled := 0
		dial := func() (*netlink.Conn, error) {
			if dialled == len(dials) {
				t.Fatal("dials although it is subscribed")
			}
			d := dials[dialled]
			dialled++
			if d.dial != nil {
				return nil, d.dial
			}
			return nltest.Dial(func([]netlink.Message) ([]netlink.Message, error) {
				if d.receive == nil {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return nil, d.receive
			}), nil
		}
		heard := make(chan struct{}, 1)
		ended := make(chan struct{})
		go func() { defer close(ended); f.listen(ctx, dial, heard) }()
		for i := range 3 { // as many as are subscribed
			select {
			case <-heard:
			case <-time.After(fullInterval):
				t.Fatalf("subscription %d brought no token", i)
			}
		}
		synctest.Wait()
		if dialled != len(dials) {
			t.Errorf("dialled %d times, want %d", dialled, len(dials))
		}
		if n := warnings(hook); n != 3 {
			t.Errorf("warned %d times, want 3: once for each failure, however long it lasts", n)
		}
		cancel()
		<-ended
	})
}

func TestListenGoesOnAfterLostEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, _ := test.NewNullLogger()
		f := &Firewall{log: logrus.NewEntry(log)}
		ctx, cancel := context.WithCancel(t.Context())
		events := make(chan error)
		dial := func() (*netlink.Conn, error) {
			return nltest.Dial(func([]netlink.Message) ([]netlink.Message, error) {
				select {
				case err := <-events:
					return nil, err
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}), nil
		}
		heard := make(chan struct{}, 1)
		ended := make(chan struct{})
		go func() { defer close(ended); f.listen(ctx, dial, heard) }()
		<-heard // of the subscription
		events <- os.NewSyscallError("recvmsg", unix.ENOBUFS)
		<-heard
		cancel()
		<-ended
	})
}

// FuzzConcerns: whatever bytes the kernel's event has, it is heard unless it surely is about a rule of another chain or
// about no rule, chain or table at all.
func FuzzConcerns(f *testing.F) {
	rule := func(chain string) []byte {
		b, err := netlink.MarshalAttributes([]netlink.Attribute{
			{Type: unix.NFTA_RULE_TABLE, Data: []byte("filter\x00")}, {Type: unix.NFTA_RULE_CHAIN, Data: []byte(chain + "\x00")},
		})
		if err != nil {
			f.Fatal(err)
		}
		return append(make([]byte, 4), b...)
	}
	const nftables = unix.NFNL_SUBSYS_NFTABLES << 8
	f.Add(uint16(nftables|unix.NFT_MSG_DELRULE), rule("FORWARD"))
	f.Add(uint16(nftables|unix.NFT_MSG_NEWRULE), rule("DOCKER"))
	f.Add(uint16(nftables|unix.NFT_MSG_DELTABLE), []byte{})
	f.Add(uint16(nftables|unix.NFT_MSG_NEWSETELEM), rule("FORWARD"))
	f.Add(uint16(unix.NFNL_SUBSYS_CTNETLINK<<8), rule("FORWARD"))
	f.Add(uint16(nftables|unix.NFT_MSG_NEWRULE), []byte{0, 0, 0, 0, 255, 255, 2, 0})
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		got := concerns(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind)}, Data: data})
		switch kind {
		case nftables | unix.NFT_MSG_NEWTABLE, nftables | unix.NFT_MSG_DELTABLE, nftables | unix.NFT_MSG_NEWCHAIN, nftables | unix.NFT_MSG_DELCHAIN:
			if !got {
				t.Errorf("event %#x is not heard", kind)
			}
		case nftables | unix.NFT_MSG_NEWRULE, nftables | unix.NFT_MSG_DELRULE:
			other, wellFormed := namesOtherChain(data)
			if !got && !other || got && other && wellFormed {
				t.Errorf("rule event with % x: heard: %t, names another chain: %t, well formed: %t", data, got, other, wellFormed)
			}
		default:
			if got {
				t.Errorf("event %#x is heard", kind)
			}
		}
	})
}

// namesOtherChain tells if a rule's event has another chain than FORWARD, and if all of it is well formed. It reads the
// attributes by hand: a header of two bytes of length and two of type, padded to four.
func namesOtherChain(data []byte) (other, wellFormed bool) {
	named := false
	for data = data[min(4, len(data)):]; len(data) >= 4; {
		length, kind := int(binary.NativeEndian.Uint16(data)), binary.NativeEndian.Uint16(data[2:])&0x3fff
		if length != 0 && length < 4 || length > len(data) {
			return other, false
		}
		length = max(length, 4)
		if kind == unix.NFTA_RULE_CHAIN && !named {
			named, other = true, unix.ByteSliceToString(data[4:length]) != chainName
		}
		data = data[min((length+3)&^3, len(data)):]
	}
	return other, len(data) == 0
}
