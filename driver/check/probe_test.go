// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
)

// pair are two namespaces with a veth pair between them; a server listens in the second one.
type pair struct {
	first, second *nstest.NS
	launcher      *launch.Launcher
}

func newPair(t *testing.T) pair {
	t.Helper()
	p := pair{first: nstest.New(t), second: nstest.New(t)}
	nstest.Veth(t, p.first, p.second, "eth1", "10.32.0.2/24", "fd00::2/64")
	p.first.Do(t, func() error {
		link, err := netlink.LinkByName("eth1")
		if err != nil {
			return err
		}
		for _, text := range []string{"10.32.0.1/24", "fd00::1/64"} {
			a, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			a.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	})
	p.second.Do(t, func() error {
		l, err := net.Listen("tcp", ":80")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	var err error
	p.launcher, err = launch.New(launch.Options{Path: nstest.Nsproc(t), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// probe probes from the first namespace.
func (p pair) probe(t *testing.T, ctx context.Context, to string, port uint16, mtu int) Probes {
	t.Helper()
	address := netip.MustParseAddr(to)
	sockets, err := p.launcher.Probes(t.Context(), p.first.Path(), address.Is6())
	if err != nil {
		t.Fatal(err)
	}
	prober := newProber(sockets, address, port, mtu)
	defer prober.close()
	return prober.probe(ctx)
}

func TestProbe(t *testing.T) {
	p := newPair(t)
	for _, address := range []string{"10.32.0.2", "fd00::2"} {
		var got Probes
		for range 20 { // IPv6 may still look for duplicates of the second one's address
			got = p.probe(t, t.Context(), address, 80, 1500)
			if got.Small == nil {
				break
			}
		}
		if got.Small != nil || got.Full != nil || got.TCP != nil || got.Size != 1500 {
			t.Errorf("%s: %+v, want answers to all", address, got)
		}
		if got = p.probe(t, t.Context(), address, 81, 1500); !errors.Is(got.TCP, unix.ECONNREFUSED) {
			t.Errorf("%s, a port where nobody listens: %v, want that it is refused", address, got.TCP)
		}
		if got = p.probe(t, t.Context(), address, 0, 1501); !errors.Is(got.Full, unix.EMSGSIZE) || got.Small != nil {
			t.Errorf("%s, larger than the MTU: %+v, want that the kernel refuses it", address, got)
		}
	}
	if got := p.probe(t, t.Context(), "10.99.0.1", 80, 1500); !errors.Is(got.Small, unix.ENETUNREACH) {
		t.Errorf("without a route: %+v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := p.probe(t, ctx, "10.32.0.77", 80, 1500); !errors.Is(got.Small, context.Canceled) {
		t.Errorf("with a context that has ended: %+v", got)
	}
	if got := p.probe(t, t.Context(), "10.32.0.77", 0, 1500); !errors.Is(got.Small, errNoAnswer) {
		t.Errorf("where nobody is: %+v", got)
	}
}

// TestOversize: the receiver's end takes no packets that are larger than its MTU.
func TestOversize(t *testing.T) {
	p := newPair(t)
	p.second.Do(t, func() error {
		link, err := netlink.LinkByName("eth0")
		return errors.Join(err, netlink.LinkSetMTU(link, 1000))
	})
	if got := p.probe(t, t.Context(), "10.32.0.2", 80, 1500); got.Small != nil || got.Full == nil || got.TCP != nil {
		t.Errorf("%+v, want that large packets get no answer", got)
	}
}
