// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// written returns what a Recorder writes, and what it was told.
func written(t *testing.T) ([]byte, []Datagram) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "record"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := New(int(f.Fd()), 1<<10)
	r.Sent(unix.NETLINK_ROUTE, []byte("question"))
	r.Received(unix.NETLINK_NETFILTER, []byte("a longer answer"))
	r.Received(unix.NETLINK_ROUTE, nil)
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b, []Datagram{
		{Sent: true, Protocol: unix.NETLINK_ROUTE, Messages: []byte("question")},
		{Protocol: unix.NETLINK_NETFILTER, Messages: []byte("a longer answer")},
		{Protocol: unix.NETLINK_ROUTE, Messages: []byte{}},
	}
}

func TestRecord(t *testing.T) {
	b, want := written(t)
	got, whole := Read(b)
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Datagram{}, "After")); diff != "" || !whole {
		t.Errorf("whole %v (-want +got)\n%s", whole, diff)
	}
	for i := 1; i < len(got); i++ {
		if got[i].After < got[i-1].After {
			t.Errorf("datagram %d after %v, that before it after %v", i, got[i].After, got[i-1].After)
		}
	}
}

// Of a record that was cut off there is what is whole.
func TestCut(t *testing.T) {
	b, want := written(t)
	for size := range b {
		got, whole := Read(b[:size])
		if whole != (size == 0 || size == headerSize+8 || size == len(b)-headerSize) {
			t.Errorf("%d bytes: whole %v", size, whole)
		}
		ignored := cmpopts.IgnoreFields(Datagram{}, "After")
		if diff := cmp.Diff(want[:len(got)], got, ignored, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%d bytes (-want +got)\n%s", size, diff)
		}
	}
}

// When the record is full it ends, says so, and does nothing else.
func TestFull(t *testing.T) {
	for size, datagrams := range map[int]int{1: 0, 76: 0, 77: 1, 100: 1, 152: 1, 153: 2, 1000: 3} {
		f, err := os.Create(filepath.Join(t.TempDir(), "record"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r := New(int(f.Fd()), size)
		for range 3 {
			r.Sent(unix.NETLINK_ROUTE, bytes.Repeat([]byte("x"), 60))
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if got, whole := Read(b); len(got) != datagrams || whole != (datagrams == 3) || len(b) > size {
			t.Errorf("%d bytes: %d datagrams in %d bytes, whole %v, want %d", size, len(got), len(b), whole, datagrams)
		}
	}
	var none *Recorder
	none.Sent(unix.NETLINK_ROUTE, []byte("x"))
}
