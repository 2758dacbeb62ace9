// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/internal/nstest"
)

func TestKernel(t *testing.T) {
	with := func(features ...feature) facts { return facts{kernel: kernel{"6.1.0", features}} }
	check(t, ofKernel, []judged{
		{"all", with(feature{name: "a"}, feature{name: "b"}), api.CheckOK, "Linux 6.1.0 has a, b"},
		{"one is missing", with(feature{"a", errors.New("no"), "nothing works", false}), api.CheckFailed,
			"a: no; nothing works"},
		{"less works", with(feature{"a", errors.New("no"), "some works", true}), api.CheckWarning, "a: no; some works"},
	})
}

// TestHasKind: the kernel says which kinds of links it has, and has none afterwards that it did not have before.
func TestHasKind(t *testing.T) {
	nstest.New(t).Do(t, func() error {
		for _, kind := range (&Checker{Options{Cluster: true}}).linkKinds() {
			if err := hasKind(kind); err != nil {
				t.Errorf("%s: %v", kind.Type(), err)
			}
		}
		unheard := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "x"}, LinkType: "unheard-of"}
		if err := hasKind(unheard); !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("a kind that there is not: %v, want %v", err, unix.EOPNOTSUPP)
		}
		links, err := netlink.LinkList()
		if len(links) != 1 {
			t.Errorf("links %v are left", links)
		}
		return err
	})
}

func TestRights(t *testing.T) {
	all := func(without ...cap.Value) facts {
		r := rights{has: map[cap.Value]bool{}, children: map[cap.Value]bool{}}
		for _, n := range needs {
			r.has[n.right], r.children[n.right] = true, true
		}
		for _, v := range without {
			r.has[v], r.children[v] = false, false
		}
		return facts{rights: r}
	}
	check(t, ofRights, []judged{
		{"all", all(), api.CheckOK, "CAP_NET_ADMIN (weave), CAP_SYS_ADMIN (nsproc)"},
		{"SYS_ADMIN instead of BPF", all(cap.BPF), api.CheckOK, ""},
		{"no SYS_ADMIN", all(cap.SYS_ADMIN), api.CheckFailed, "CAP_SYS_ADMIN is missing (nsproc)"},
		{"no NET_RAW", all(cap.NET_RAW), api.CheckWarning, "CAP_NET_RAW is missing (nsproc)"},
		{"not read", facts{rights: rights{err: errors.New("no")}}, api.CheckUnknown, "no"},
	})
}

// TestReadRights: root in a test has all of them.
func TestReadRights(t *testing.T) {
	nstest.New(t) // skips the test without root
	if found := ofRights(facts{rights: readRights()}); !isFine(found) {
		t.Errorf("got %+v, want that all is fine", found)
	}
}
