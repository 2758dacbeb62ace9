// SPDX-License-Identifier: Apache-2.0

package announce

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/internal/nstest"
)

// TestSender: one Sender sends out of several links. The log says how long that takes, and what it takes with a Sender
// for each frame.
func TestSender(t *testing.T) {
	const times = 20
	nstest.New(t).Do(t, func() error {
		for _, name := range []string{"a", "b"} {
			attrs := netlink.NewLinkAttrs()
			attrs.Name = name
			if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "-peer"}); err != nil {
				return err
			}
			for _, end := range []string{name, name + "-peer"} {
				if err := netlink.LinkSetUp(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: end}}); err != nil {
					return err
				}
			}
		}
		s, err := NewSender()
		if err != nil {
			return err
		}
		defer s.Close()
		frames := [][]byte{Frame(mac.Address{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.0.1"))}
		for _, send := range []func(link int, frames [][]byte) error{s.Send, Send} {
			before, start := received(t), time.Now()
			for range times {
				for _, name := range []string{"a", "b"} {
					link, err := netlink.LinkByName(name)
					if err != nil {
						return err
					}
					if err := send(link.Attrs().Index, frames); err != nil {
						return err
					}
				}
			}
			t.Logf("%d announcements: %v", 2*times, time.Since(start))
			for name, n := range received(t) {
				if n-before[name] < times {
					t.Errorf("%d frames came to %s, want %d", n-before[name], name, times)
				}
			}
		}
		return nil
	})
}

// received returns how many frames each peer has received.
func received(t *testing.T) map[string]uint64 {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]uint64{}
	for _, l := range links {
		if strings.HasSuffix(l.Attrs().Name, "-peer") {
			out[l.Attrs().Name] = l.Attrs().Statistics.RxPackets
		}
	}
	return out
}
