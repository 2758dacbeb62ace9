// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/store"
)

// The ways in which a damaged state can turn out.
const (
	refused = 'r'
	same    = 's' // it can be used, with what was in the good one
	earlier = 'e' // it can be used, without the last change
	wrong   = 'w' // it can be used, but holds something else
)

// block is how many bytes are altered at once, and batch how many a child tries.
const (
	block = 64
	batch = 2048
)

// TestAlteredByte alters one byte of a state after the other. Either that is found, or the state can be used as if
// nothing had happened. Only where a meta page is altered does bbolt go back to the transaction before, as after a
// power failure.
func TestAlteredByte(t *testing.T) {
	for name, fill := range map[string]func(s store.Store){
		"pages of every kind":    fillPages,
		"records without a page": fillInline,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := state(t, fill)
			results, crashes := alterEach(t, good)
			count := map[byte]int{}
			for n, result := range results {
				count[result]++
				if result == wrong || result == earlier && n >= 2*os.Getpagesize() {
					t.Errorf("byte %d was altered and the state can't be used as before: %c", n, result)
				}
			}
			t.Logf("%d bytes: %d found, %d of them by a crash; %d have no effect, %d undo the last change",
				len(results), count[refused], crashes, count[same], count[earlier])
			if count[refused] == 0 || count[same] == 0 || count[earlier] == 0 {
				t.Error("the state has no such bytes: the test shows too little")
			}
		})
	}
}

// alterEach alters each byte in turn. It returns how each of these states turned out, and how many crashed bbolt.
//
// The altered states are tried in a child process, which does what OpenBolt's child does, but many times. When it
// crashes, the next child starts with the byte that follows. To save time, all bytes of a block are first altered
// together: if that has no effect, then none of them has one.
func alterEach(t *testing.T, good []byte) (results []byte, crashes int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weave.db")
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	bytewise := false // the next block
	for len(results) < len(good) {
		cmd := child(t, "alter", path, strconv.Itoa(len(results)), strconv.FormatBool(bytewise))
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		results = append(results, stdout.Bytes()...)
		switch {
		case err == nil:
			bytewise = false
		case cmd.ProcessState.ExitCode() == 1: // see must; any other is a crash
			t.Fatalf("the child: %v: %s", err, stderr.Bytes())
		case len(results)%block == 0 && !bytewise: // the whole block may have crashed it
			bytewise = true
		default:
			results = append(results, refused)
			crashes++
			bytewise = false
		}
	}
	return results, crashes
}

// alterBytes is the child of alterEach. It writes the results, a byte each, from number args[1] on.
func alterBytes(args []string) {
	good, err := os.ReadFile(args[0])
	must(err)
	from, err := strconv.Atoi(args[1])
	must(err)
	bytewise, err := strconv.ParseBool(args[2])
	must(err)
	must(store.Confine(512<<20, time.Minute))
	want, err := use(good)
	must(err)
	for n := from; n < min(from+batch, len(good)); {
		end := n + 1
		if n%block == 0 && !bytewise && try(alter(good, n, n+block), want) == same {
			end = n + block
		}
		bytewise = false
		result := byte(same)
		if end == n+1 {
			result = try(alter(good, n, end), want)
		}
		_, err := os.Stdout.Write(bytes.Repeat([]byte{result}, end-n))
		must(err)
		n = end
	}
	unix.Exit(0) // without the race detector, to which reading in the wrong place may have looked like a race
}

// must ends a child that can't do its work.
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		unix.Exit(1)
	}
}

// alter returns good with one bit inverted in each of the bytes from n to end.
func alter(good []byte, n, end int) []byte {
	bad := bytes.Clone(good)
	for ; n < end; n++ {
		bad[n] ^= 1 << (n % 8)
	}
	return bad
}

// TestOpenAltered has OpenBolt itself open some of the states of TestAlteredByte.
func TestOpenAltered(t *testing.T) {
	t.Parallel()
	good := state(t, fillPages)
	want, err := openCopy(t, good)
	if err != nil {
		t.Fatal(err)
	}
	// Not the meta pages, whose damage may undo the last change.
	for n := 2 * os.Getpagesize(); n < len(good); n += 1009 {
		got, err := openCopy(t, alter(good, n, n+1))
		switch {
		case err == nil && !maps.Equal(got, want):
			t.Errorf("byte %d: other records: %v", n, got)
		case err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrFuture):
			t.Errorf("byte %d: %v", n, err)
		}
	}
}

// TestCut cuts a state short. Either that is found, or nothing was lost. The step is not a power of two, so that the
// cuts are at different places in their pages.
func TestCut(t *testing.T) {
	t.Parallel()
	good := state(t, fillPages)
	want, err := use(good)
	if err != nil {
		t.Fatal(err)
	}
	count := map[byte]int{}
	for n := 1; n < len(good); n += 37 {
		result := try(good[:n], want)
		count[result]++
		if result != refused && result != same {
			t.Errorf("cut at byte %d: it can be used but is not the same", n)
		}
	}
	if count[refused] == 0 || count[same] == 0 {
		t.Error("the test shows too little")
	}
}

// try returns how a damaged state turns out, given the records of the good one.
func try(bad []byte, want []store.Record) byte {
	if err := store.TryOut(bad); err != nil {
		return refused
	}
	got, err := use(bad)
	if err == nil && slices.EqualFunc(got, want, equal) {
		return same
	}
	before := slices.DeleteFunc(slices.Clone(want), func(r store.Record) bool { return r.Key == "last" })
	if err == nil && slices.EqualFunc(got, before, equal) {
		return earlier
	}
	return wrong
}

// use reads a state, writes each record anew, and returns the records if they are still the same.
func use(content []byte) ([]store.Record, error) {
	s, err := store.OpenUnchecked(content)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	before, err := s.List(context.Background(), "")
	if err != nil {
		return nil, err
	}
	var all []store.Change
	for _, r := range before {
		all = append(all, store.Change(r))
	}
	if err := s.Apply(context.Background(), all...); err != nil {
		return nil, err
	}
	after, err := s.List(context.Background(), "")
	if err == nil && !slices.EqualFunc(before, after, equal) {
		err = errors.New("other records after writing the same ones")
	}
	return after, err
}

func equal(a, b store.Record) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }

// fillPages gives a state pages of every kind. Like fillInline it puts the record last in the last transaction.
func fillPages(s store.Store) {
	for n := range 16 {
		mustChange(s, store.Change{Key: fmt.Sprintf("record/%03d", 2*n), Value: bytes.Repeat([]byte{byte(n)}, 300)})
	}
	mustChange(s, store.Change{Key: "long", Value: bytes.Repeat([]byte("long"), 1200)}, store.Delete("record/004"))
	mustChange(s, store.Change{Key: "last", Value: []byte("last")})
}

// fillInline gives a state so few records that bbolt keeps them in the page of the bucket's name.
func fillInline(s store.Store) {
	for n := range 8 {
		mustChange(s, store.Change{Key: fmt.Sprint("record/", n), Value: []byte(fmt.Sprint("value ", n))})
	}
	mustChange(s, store.Change{Key: "last", Value: []byte("last")})
}

func mustChange(s store.Store, changes ...store.Change) {
	if err := s.Apply(context.Background(), changes...); err != nil {
		panic(err)
	}
}
