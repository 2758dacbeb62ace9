// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDoRunsInsideAndComesBack(t *testing.T) {
	ns := New(t)
	home := inode(t, "/proc/thread-self/ns/net")
	var inside uint64
	ns.Do(t, func() error {
		inside = inode(t, "/proc/thread-self/ns/net")
		lo, err := net.InterfaceByName("lo")
		if err == nil && lo.Flags&net.FlagUp == 0 {
			err = errors.New("lo is down")
		}
		return err
	})
	if inside == home {
		t.Error("f ran outside")
	}
	if got := inode(t, ns.Path()); got != inside {
		t.Errorf("Path opens inode %d, f ran in %d", got, inside)
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range threads {
		if got := inode(t, "/proc/self/task/"+th.Name()+"/ns/net"); got == inside {
			t.Errorf("thread %s stayed inside", th.Name())
		}
	}
}

func TestDoPassesOnHowItEnds(t *testing.T) {
	ns := New(t)
	for name, f := range map[string]func(tb testing.TB) error{
		"error": func(testing.TB) error { return errors.New("x") },
		"fatal": func(tb testing.TB) error { tb.FailNow(); return nil },
	} {
		tb := &recorder{TB: t}
		ended := make(chan bool)
		go func() {
			after := false
			defer func() { ended <- !after }()
			ns.Do(tb, func() error { return f(tb) })
			after = true
		}()
		if !<-ended || !tb.failed {
			t.Errorf("%s: the test went on", name)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic was lost")
		}
	}()
	ns.Do(t, func() error { panic("x") })
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatalf("stat %s: %v", path, err)
	}
	return st.Ino
}
