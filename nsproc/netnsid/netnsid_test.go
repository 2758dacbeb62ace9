// SPDX-License-Identifier: Apache-2.0

package netnsid

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weaveplugin/weave/internal/nstest"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netstate"
	"github.com/weaveplugin/weave/nsproc/protocol"
	"github.com/weaveplugin/weave/nsproc/rtnl"
	"github.com/weaveplugin/weave/nsproc/sandbox"
)

func newQuerier(t *testing.T) *Querier {
	t.Helper()
	q, err := New("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

// settled lists the sandbox at path until its last link has as many addresses as wanted: the kernel adds the link-local
// one some time after the link has come up.
func settled(t *testing.T, q *Querier, path string, want int) *netstate.Snapshot {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		s, err := q.List(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Links[len(s.Links)-1].Addresses) == want {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %+v, want %d addresses on the last link", s.Links, want)
		}
	}
}

// The kernel from outside and nsproc from inside list the same.
func TestSameAsNsproc(t *testing.T) {
	q := newQuerier(t)
	l, err := launch.New(launch.Options{Path: nstest.Nsproc(t), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	host, ns := nstest.New(t), nstest.New(t)
	nstest.Veth(t, host, ns, "host0", "10.32.0.9/22", "10.32.0.3/22", "fd00::9/64")
	ns.Do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "br0"
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	})
	nstest.Veth(t, ns, host, "second", "10.99.0.1/24") // its other end is eth0 of host
	for name, path := range map[string]string{"ns": ns.Path(), "host": host.Path(), "empty": nstest.New(t).Path()} {
		t.Run(name, func(t *testing.T) {
			var diff string
			for range 100 { // until all link-local addresses are there
				outside, err := q.List(t.Context(), path)
				if err != nil {
					t.Fatal(err)
				}
				inside, err := l.List(t.Context(), path, protocol.List{})
				if err != nil {
					t.Fatal(err)
				}
				diff = cmp.Diff(inside.Links, outside.Links, cmpopts.EquateComparable(netip.Prefix{}))
				if diff == "" {
					break
				}
			}
			if diff != "" {
				t.Error("(-nsproc +kernel)\n", diff)
			}
		})
	}
}

func TestHost(t *testing.T) {
	q := newQuerier(t)
	host, err := q.Host(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if host.Links[0].Name != "lo" {
		t.Errorf("got %+v, want lo first", host.Links)
	}
	if _, err := q.List(t.Context(), "/proc/self/ns/net"); !errors.Is(err, sandbox.ErrHost) {
		t.Errorf("as a sandbox: %v, want ErrHost", err)
	}
}

// Several goroutines list a sandbox each.
func TestParallel(t *testing.T) {
	q := newQuerier(t)
	host := nstest.New(t)
	var group sync.WaitGroup
	for i := range 20 {
		ns := nstest.New(t)
		address := fmt.Sprintf("10.32.0.%d/22", i+1)
		_, hwaddr := nstest.Veth(t, host, ns, fmt.Sprintf("host%d", i), address)
		group.Go(func() {
			for range 20 {
				s, err := q.List(t.Context(), ns.Path())
				if err != nil {
					t.Error(err)
					return
				}
				eth0 := s.Links[len(s.Links)-1]
				if eth0.MAC != hwaddr || eth0.Addresses[0].String() != address {
					t.Errorf("got %+v, want %s with %s", eth0, hwaddr, address)
				}
			}
		})
	}
	group.Wait()
}

func TestListErrors(t *testing.T) {
	q := newQuerier(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := q.List(t.Context(), plain+"x"); !errors.Is(err, sandbox.ErrGone) {
		t.Errorf("got error %v, want ErrGone", err)
	}
	if _, err := q.List(t.Context(), plain); !errors.Is(err, sandbox.ErrNotVisible) {
		t.Errorf("got error %v, want ErrNotVisible", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	path := nstest.New(t).Path()
	if _, err := q.List(ctx, path); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want the context's", err)
	}
	broken := errors.New("broken")
	for range connections { // each connection breaks once and is replaced by a new one
		_, err := q.query(t.Context(), func(*rtnl.Conn) ([]netstate.Link, error) { return nil, broken })
		if !errors.Is(err, broken) {
			t.Errorf("got error %v, want that of the query", err)
		}
	}
	for range connections {
		if _, err := q.List(t.Context(), path); err != nil {
			t.Errorf("after an error: %v", err)
		}
	}
}

// While links are added and removed a listing is complete or an error: it has all links that exist all the time.
func TestWholeWhileChanging(t *testing.T) {
	q := newQuerier(t)
	ns := nstest.New(t)
	pair := func(i int) *netlink.Veth {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("a%d", i)
		return &netlink.Veth{LinkAttrs: attrs, PeerName: fmt.Sprintf("b%d", i)}
	}
	const stay = 60 // pairs: their listing takes several messages
	ns.Do(t, func() error {
		for i := range stay {
			if err := netlink.LinkAdd(pair(i)); err != nil {
				return err
			}
		}
		return nil
	})
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		ns.Do(t, func() error {
			for {
				select {
				case <-stop:
					return nil
				default:
				}
				if err := netlink.LinkAdd(pair(stay)); err != nil {
					return err
				}
				if err := netlink.LinkDel(pair(stay)); err != nil {
					return err
				}
			}
		})
	})
	for range 200 {
		s, err := q.List(t.Context(), ns.Path())
		if errors.Is(err, rtnl.ErrInterrupted) {
			continue
		}
		if err != nil {
			t.Error(err)
			break
		}
		n := 0
		for _, l := range s.Links {
			if l.Name != fmt.Sprintf("a%d", stay) && l.Name != fmt.Sprintf("b%d", stay) {
				n++
			}
		}
		if n != 1+2*stay {
			t.Errorf("got %d links, want %d", n, 1+2*stay)
		}
	}
	close(stop)
	group.Wait()
}

// childPath is the environment variable with the sandbox that a test, run in a process of its own, lists.
const childPath = "WEAVE_TEST_NETNSID_PATH"

func TestWithoutSysAdmin(t *testing.T) {
	if path := os.Getenv(childPath); path != "" {
		withoutSysAdmin(t, path)
		return
	}
	host, ns := nstest.New(t), nstest.New(t)
	nstest.Veth(t, host, ns, "host0", "10.32.0.9/22")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWithoutSysAdmin$", "-test.v")
	cmd.Env = append(os.Environ(), childPath+"="+ns.Path())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func withoutSysAdmin(t *testing.T, path string) {
	caps := cap.GetProc()
	if err := caps.SetFlag(cap.Permitted, false, cap.SYS_ADMIN); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(caps.SetFlag(cap.Effective, false, cap.SYS_ADMIN), caps.SetProc()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); !errors.Is(err, unix.EPERM) {
		t.Fatalf("got error %v, want the capability to be gone", err)
	}
	s := settled(t, newQuerier(t), path, 2)
	eth0 := s.Links[len(s.Links)-1]
	if eth0.Addresses[0] != netip.MustParsePrefix("10.32.0.9/22") {
		t.Errorf("got %+v", eth0)
	}
}

// Without CAP_NET_ADMIN the kernel refuses, which the caller can recognize.
func TestRefused(t *testing.T) {
	if path := os.Getenv(childPath); path != "" {
		caps := cap.GetProc()
		if err := errors.Join(caps.SetFlag(cap.Effective, false, cap.NET_ADMIN), caps.SetProc()); err != nil {
			t.Fatal(err)
		}
		if _, err := newQuerier(t).List(t.Context(), path); !errors.Is(err, ErrUnsupported) {
			t.Errorf("got error %v, want ErrUnsupported", err)
		}
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRefused$", "-test.v")
	cmd.Env = append(os.Environ(), childPath+"="+nstest.New(t).Path())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
