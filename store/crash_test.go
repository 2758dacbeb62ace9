// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/store"
)

// writeUntilKilled is a child that makes numbered changes to the state args[0], each of several records, until it is
// killed. It prints the number of each change that Apply has made.
func writeUntilKilled(args []string) {
	ctx := context.Background()
	s, err := store.OpenBolt(ctx, args[0])
	if err != nil {
		panic(err)
	}
	first := 0
	if records, err := s.List(ctx, "last"); err == nil && len(records) == 1 {
		first, _ = strconv.Atoi(string(records[0].Value))
	}
	for n := first + 1; ; n++ {
		if err := s.Apply(ctx, numbered(n)...); err != nil {
			panic(err)
		}
		fmt.Println(n)
	}
}

func numbered(n int) []store.Change {
	value := []byte(strconv.Itoa(n))
	return []store.Change{
		{Key: fmt.Sprintf("a/%d", n), Value: value},
		{Key: "last", Value: value},
		store.Delete(fmt.Sprintf("a/%d", n-100)),
		{Key: fmt.Sprintf("z/%d", n), Value: value},
		store.Delete(fmt.Sprintf("z/%d", n-100)),
	}
}

// TestKilled kills a process while it writes. Afterwards each change that Apply had made is there, and no change is
// there in part.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	for round := range 10 {
		acknowledged := killWriter(t, path, 50+37*round)
		s := mustOpen(t, path)
		got := mustList(t, s)
		mustClose(t, s)
		last, err := strconv.Atoi(got["last"])
		if err != nil || last < acknowledged || last > acknowledged+1 {
			t.Fatalf("round %d: %d is the last change, %v: %d was acknowledged", round, last, err, acknowledged)
		}
		want := 1
		for n := max(1, last-99); n <= last; n++ {
			for _, prefix := range []string{"a", "z"} {
				if got[fmt.Sprintf("%s/%d", prefix, n)] != strconv.Itoa(n) {
					t.Errorf("round %d: change %d is not whole", round, n)
				}
				want++
			}
		}
		if len(got) != want {
			t.Errorf("round %d: %d records: want %d", round, len(got), want)
		}
	}
}

// killWriter starts a writer and kills it when it has printed the given number of changes. It returns the number of
// the last one that the writer printed.
func killWriter(t *testing.T, path string, changes int) int {
	t.Helper()
	writer := child(t, "write", path)
	writer.Stderr = os.Stderr
	out, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	last, lines := 0, 0
	for s := bufio.NewScanner(out); s.Scan(); lines++ {
		if last, err = strconv.Atoi(s.Text()); err != nil {
			t.Errorf("the writer says: %s", s.Text())
		}
		if lines == changes {
			if err := writer.Process.Signal(unix.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
	if err := writer.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Fatalf("the writer ended: %v", err)
	}
	return last
}

// TestDiskFull: a change that finds no room is an error and changes nothing; when there is room again, it is made.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		if os.Getenv("WEAVE_TEST_ROOT") == "1" {
			t.Fatal("mounting a tmpfs needs root")
		}
		t.Skip("mounting a tmpfs needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("weave-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "weave.db")
	s := mustOpen(t, path)
	value := make([]byte, 20<<10)
	written := 0
	next := func() error {
		return s.Apply(t.Context(),
			store.Change{Key: fmt.Sprintf("a/%03d", written), Value: value},
			store.Change{Key: "last", Value: []byte(strconv.Itoa(written))})
	}
	for {
		if err := next(); err != nil {
			t.Logf("after %d changes: %v", written, err)
			break
		}
		if written++; written > 100 {
			t.Fatal("the disk is never full")
		}
	}
	check := func() {
		t.Helper()
		if got := mustList(t, s); len(got) != written+1 || got["last"] != strconv.Itoa(written-1) {
			t.Errorf("%d records, last %s: want %d", len(got), got["last"], written+1)
		}
	}
	check()
	for range 3 { // again and again: nothing may be lost inside bbolt either
		if err := s.Apply(t.Context(), store.Change{Key: "big", Value: make([]byte, 600<<10)}); err == nil {
			t.Fatal("there was room")
		}
		check()
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := next(); err != nil {
		t.Fatal(err)
	}
	written++
	check()
	mustClose(t, s)
	s = mustOpen(t, path) // which reads all of it
	check()
	mustClose(t, s)
}
