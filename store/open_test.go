// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/weaveplugin/weave/store"
)

func TestOpenMakesPrivateFileAndDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "weave.db")
	mustClose(t, mustOpen(t, path))
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		info, err := os.Stat(p)
		if err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v: want %v", p, info.Mode(), err, want)
		}
	}
	names, err := filepath.Glob(filepath.Dir(path) + "/*")
	if err != nil || len(names) != 1 {
		t.Errorf("files %v, %v: want the state alone", names, err)
	}
}

func TestOpenAfterCrashWhileCreating(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	if err := os.WriteFile(path+".new", []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, path)
	mustApply(t, s, store.Change{Key: "a", Value: []byte("1")})
	mustClose(t, s)
	s = mustOpen(t, path)
	defer mustClose(t, s)
	if diff := cmp.Diff(map[string]string{"a": "1"}, mustList(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestOpenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	s := mustOpen(t, path)
	if second, err := store.OpenBolt(t.Context(), path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("%v, %v: want ErrLocked", second, err)
	}
	mustApply(t, s, store.Change{Key: "a", Value: []byte("1")})
	mustClose(t, s)
	mustClose(t, mustOpen(t, path))
}

// TestOpenAtOnce opens a state that does not exist several times at once. One creates it; the others wait for that
// one to close it, or find it locked.
func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	const n = 4
	done := make(chan error, n)
	for i := range n {
		go func() {
			s, err := store.OpenBolt(t.Context(), path)
			if err == nil {
				err = s.Apply(context.Background(), store.Change{Key: fmt.Sprint(i), Value: []byte("1")})
				err = errors.Join(err, s.Close())
			}
			done <- err
		}()
	}
	opened := 0
	for range n {
		if err := <-done; err == nil {
			opened++
		} else if !errors.Is(err, store.ErrLocked) {
			t.Error(err)
		}
	}
	s := mustOpen(t, path)
	defer mustClose(t, s)
	if got := mustList(t, s); len(got) != opened || opened == 0 {
		t.Errorf("%d opened, records %v", opened, got)
	}
}

// TestOpenEndsWithContext opens a file that is locked, with a context that has ended.
func TestOpenEndsWithContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	defer mustClose(t, mustOpen(t, path))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := store.OpenBolt(ctx, path); !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrLocked) {
		t.Errorf("%v: want the context's error", err)
	}
}

// foreign returns the bytes of a bbolt file that is not a state.
func foreign(t *testing.T, fill func(tx *bbolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "foreign.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fill), db.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// withVersion fills a bbolt file with the version of a state and nothing else.
func withVersion(version string) func(tx *bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("meta"))
		if err != nil {
			return err
		}
		return b.Put([]byte("version"), []byte(version))
	}
}

// Flags of bbolt's pages.
const (
	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
)

// withPages returns good with each of its pages of one kind altered.
func withPages(t *testing.T, good []byte, kind uint16, alter func(page []byte)) []byte {
	t.Helper()
	bad := bytes.Clone(good)
	found := false
	for at := 2 * os.Getpagesize(); at < len(bad); at += os.Getpagesize() {
		if page := bad[at:][:os.Getpagesize()]; order.Uint16(page[8:]) == kind {
			alter(page)
			found = true
		}
	}
	if !found {
		t.Fatalf("the state has no page of kind %#x", kind)
	}
	return bad
}

// order is the byte order of bbolt's numbers.
var order = binary.NativeEndian

// What makes bbolt crash: a first page below that is the page itself, a number of pages that continue this one, and a
// position of the first key.
func referToItself(page []byte) { copy(page[24:], page[:8]) }
func neverEnd(page []byte)      { order.PutUint32(page[12:], math.MaxUint32) }
func leadAway(page []byte)      { order.PutUint32(page[20:], 0x7fff0000) }

// loseFreePage and addFreePage change a list of free pages.
func loseFreePage(page []byte) { order.PutUint16(page[10:], order.Uint16(page[10:])-1) }
func addFreePage(page []byte) {
	count := order.Uint16(page[10:])
	order.PutUint16(page[10:], count+1)
	order.PutUint64(page[16+8*count:], 1<<40)
}

func TestOpenRefusesWithoutTouching(t *testing.T) {
	good := state(t, fillPages)
	for name, c := range map[string]struct {
		data []byte
		want error
		says string
	}{
		"empty file":              {nil, store.ErrDamaged, "empty"},
		"text":                    {[]byte("hello\n"), store.ErrDamaged, ""},
		"zeros":                   {make([]byte, len(good)), store.ErrDamaged, ""},
		"noise":                   {bytes.Repeat([]byte("\xed\xda\x0c\xed"), 1<<14), store.ErrDamaged, ""},
		"cut in the first page":   {good[:100], store.ErrDamaged, ""},
		"cut after the metas":     {good[:2*os.Getpagesize()], store.ErrDamaged, "cut short"},
		"cut in a later page":     {good[:3*os.Getpagesize()+7], store.ErrDamaged, "cut short"},
		"another program's bbolt": {foreign(t, func(tx *bbolt.Tx) error { return nil }), store.ErrDamaged, "bucket"},
		"version 0":               {foreign(t, withVersion("0")), store.ErrDamaged, "version"},
		"version is no number":    {foreign(t, withVersion("one")), store.ErrDamaged, "version"},
		"version 2":               {foreign(t, withVersion("2")), store.ErrFuture, "version 2"},
		"a page is missing":       {withPages(t, good, freelistPage, loseFreePage), store.ErrDamaged, "unreachable"},
		"a page too many":         {withPages(t, good, freelistPage, addFreePage), store.ErrDamaged, "listed as free"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := wantRefused(t, c.data, c.want, c.says)
			if len(c.data) == 0 { // the child is not even started
				return
			}
			if inner := store.TryOut(c.data); inner == nil || !strings.Contains(err.Error(), inner.Error()) {
				t.Errorf("%v: want what the child finds: %v", err, inner)
			}
		})
	}
}

// TestCrashIsRefused opens states on which bbolt's stack overflows, on which it takes all memory, and on which it reads
// beyond the end of its memory map. Its own check may find the first one before the stack overflows.
func TestCrashIsRefused(t *testing.T) {
	good := state(t, fillPages)
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"a page that refers to itself": {withPages(t, good, branchPage, referToItself), ""},
		"a page without an end":        {withPages(t, good, freelistPage, neverEnd), "crashed"},
		"a key beyond the file":        {withPages(t, good, leafPage, leadAway), "crashed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_ = wantRefused(t, c.data, store.ErrDamaged, c.says)
		})
	}
}

// wantRefused opens a state of that content and returns the error, which must wrap want, contain says and tell the user
// what to do.
func wantRefused(t *testing.T, content []byte, want error, says string) error {
	t.Helper()
	_, err := openCopy(t, content)
	if err == nil {
		t.Fatal("the state was opened")
	}
	advice := "move the file away"
	if want == store.ErrFuture {
		advice = "install that version"
	}
	if text := err.Error(); !errors.Is(err, want) || !strings.Contains(text, says) || !strings.Contains(text, advice) {
		t.Errorf("%v: want %v, %q and %q", err, want, says, advice)
	}
	return err
}

// openCopy opens a state of that content and returns its records. If it is refused, openCopy checks that the file was
// not touched.
func openCopy(t *testing.T, content []byte) (map[string]string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "weave.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
	s, refused := store.OpenBolt(t.Context(), path)
	if refused == nil {
		defer mustClose(t, s)
		return mustList(t, s), nil
	}
	if !strings.Contains(refused.Error(), path) {
		t.Errorf("%v: want the path", refused)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(after, content) {
		t.Errorf("the file was changed: %v", err)
	}
	if info, err := os.Stat(path); err != nil || !info.ModTime().Equal(past) {
		t.Errorf("the file was written: %v, %v", info.ModTime(), err)
	}
	if names, _ := filepath.Glob(dir + "/*"); len(names) != 1 {
		t.Errorf("files %v", names)
	}
	return nil, refused
}

func TestOpenRefusesOtherThanFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := store.OpenBolt(t.Context(), dir); err == nil {
		t.Error("a directory was opened")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenBolt(t.Context(), filepath.Join(file, "weave.db")); err == nil {
		t.Error("a file below a file was opened")
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dangling))
}
