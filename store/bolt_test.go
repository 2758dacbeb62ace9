package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/weaveplugin/weave/store"
	"github.com/weaveplugin/weave/store/storetest"
)

func TestBolt(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Place {
		path := filepath.Join(t.TempDir(), "state", "weave.db")
		return func(t *testing.T) store.Store { return mustOpen(t, path) }
	})
}

func mustOpen(t testing.TB, path string) *store.Bolt {
	t.Helper()
	s, err := store.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustApply(t testing.TB, s store.Store, changes ...store.Change) {
	t.Helper()
	if err := s.Apply(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
}

func mustClose(t testing.TB, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustList(t testing.TB, s store.Store) map[string]string {
	t.Helper()
	records, err := s.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range records {
		out[r.Key] = string(r.Value)
	}
	return out
}

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
	if second, err := store.OpenBolt(path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("%v, %v: want ErrLocked", second, err)
	}
	mustApply(t, s, store.Change{Key: "a", Value: []byte("1")})
	mustClose(t, s)
	mustClose(t, mustOpen(t, path))
}

// TestOpenAtOnce: of several that find no state one makes it, and the others wait or find it locked.
func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weave.db")
	const n = 4
	done := make(chan error, n)
	for i := range n {
		go func() {
			s, err := store.OpenBolt(path)
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

// state makes a state in a file and returns its bytes.
func state(t testing.TB, changes func(s store.Store)) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weave.db")
	s := mustOpen(t, path)
	changes(s)
	mustClose(t, s)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// foreign makes a bbolt file that isn't a state.
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

func withVersion(version string) func(tx *bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("meta"))
		if err != nil {
			return err
		}
		return b.Put([]byte("version"), []byte(version))
	}
}

func TestOpenRefusesWithoutTouching(t *testing.T) {
	good := state(t, fill)
	for name, c := range map[string]struct {
		data []byte
		want error
		says string
	}{
		"empty file":              {nil, store.ErrDamaged, "move the file away"},
		"text":                    {[]byte("hello\n"), store.ErrDamaged, "move the file away"},
		"zeros":                   {make([]byte, len(good)), store.ErrDamaged, "move the file away"},
		"noise":                   {bytes.Repeat([]byte("\xed\xda\x0c\xed"), 1<<14), store.ErrDamaged, "move the file away"},
		"cut in the first page":   {good[:100], store.ErrDamaged, "move the file away"},
		"cut after the metas":     {good[:2*os.Getpagesize()], store.ErrDamaged, "cut short"},
		"cut in a later page":     {good[:3*os.Getpagesize()+7], store.ErrDamaged, "cut short"},
		"another program's bbolt": {foreign(t, func(tx *bbolt.Tx) error { return nil }), store.ErrDamaged, "bucket"},
		"version 0":               {foreign(t, withVersion("0")), store.ErrDamaged, "version"},
		"version is no number":    {foreign(t, withVersion("one")), store.ErrDamaged, "version"},
		"version 2":               {foreign(t, withVersion("2")), store.ErrFuture, "install"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "weave.db")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			past := time.Now().Add(-time.Hour).Truncate(time.Second)
			if err := os.Chtimes(path, past, past); err != nil {
				t.Fatal(err)
			}
			_, err := store.OpenBolt(path)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v: want %v and %q", err, c.want, c.says)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, c.data) {
				t.Errorf("the file was changed: %v", err)
			}
			if info, err := os.Stat(path); err != nil || !info.ModTime().Equal(past) {
				t.Errorf("the file was written: %v, %v", info.ModTime(), err)
			}
			if names, _ := filepath.Glob(dir + "/*"); len(names) != 1 {
				t.Errorf("files %v", names)
			}
		})
	}
}

func TestOpenRefusesOtherThanFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := store.OpenBolt(dir); err == nil {
		t.Error("a directory was opened")
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenBolt(filepath.Join(file, "weave.db")); err == nil {
		t.Error("a file below a file was opened")
	}
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nowhere"), dangling); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dangling))
}

// fill gives a state enough to have pages of every kind.
func fill(s store.Store) {
	for n := range 40 {
		changes := []store.Change{{Key: fmt.Sprintf("record/%03d", n), Value: bytes.Repeat([]byte{byte(n)}, 300)}}
		if n%3 == 0 {
			changes = append(changes, store.Delete(fmt.Sprintf("record/%03d", n/2)))
		}
		if n == 20 {
			changes = append(changes, store.Change{Key: "long", Value: bytes.Repeat([]byte("long"), 4000)})
		}
		if err := s.Apply(context.Background(), changes...); err != nil {
			panic(err)
		}
	}
}

// TestAlteredByteIsFound alters one byte after the other: each is either found, or has no part in what can be read. Only a
// damaged meta page makes bbolt go back to the one before, as after a power failure.
func TestAlteredByteIsFound(t *testing.T) {
	var last, before map[string]string
	good := state(t, func(s store.Store) {
		fill(s)
		before = mustList(t, s)
		mustApply(t, s, store.Change{Key: "last", Value: []byte("last")})
		last = mustList(t, s)
	})
	const step = 61 // 1 passes too, in minutes
	path := filepath.Join(t.TempDir(), "weave.db")
	found, unseen := 0, 0
	for at := 0; at < len(good); at += step {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenBolt(path)
		if err != nil {
			// The version itself may be what was altered.
			if !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrFuture) {
				t.Fatalf("byte %d: %v", at, err)
			}
			found++
			continue
		}
		want := last
		if got := mustList(t, s); at < 2*os.Getpagesize() && got["last"] == "" {
			want = before
		} else {
			unseen++
		}
		if diff := cmp.Diff(want, mustList(t, s)); diff != "" {
			t.Fatalf("byte %d altered (-want +got):\n%s", at, diff)
		}
		if at%(4*step) == 0 {
			mustApply(t, s, store.Change{Key: "more", Value: bytes.Repeat([]byte("more"), 3000)})
		}
		mustClose(t, s)
	}
	t.Logf("%d of %d bytes: %d were found, %d have no part", (len(good)+step-1)/step, len(good), found, unseen)
	if found == 0 || unseen == 0 {
		t.Error("the state has no such bytes: the test tests nothing")
	}
}

// TestPageThatRefersToItself: bbolt would follow it until the stack is exhausted.
func TestPageThatRefersToItself(t *testing.T) {
	data := state(t, fill)
	size := os.Getpagesize()
	altered := false
	for at := 2 * size; at+32 <= len(data); at += size {
		if binary.NativeEndian.Uint16(data[at+8:]) == 1 { // a branch
			copy(data[at+24:], data[at:at+8]) // its first child: itself
			altered = true
		}
	}
	if !altered {
		t.Fatal("the state has no branch page")
	}
	path := filepath.Join(t.TempDir(), "weave.db")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenBolt(path); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%v: want ErrDamaged", err)
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("not a state"))
	f.Add(state(f, func(store.Store) {}))
	f.Add(state(f, fill))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "weave.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenBolt(path)
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrFuture) {
				t.Fatal(err)
			}
			return
		}
		mustApply(t, s, store.Change{Key: "a", Value: []byte("1")})
		if mustList(t, s)["a"] != "1" {
			t.Error("the record isn't there")
		}
		mustClose(t, s)
	})
}

func FuzzLoad(f *testing.F) {
	type value struct {
		Name  string
		Count int
		At    time.Time
	}
	f.Add([]byte(`{"Name":"a","Count":1}`))
	f.Add([]byte(`[`))
	f.Add([]byte(nil))
	path := filepath.Join(f.TempDir(), "weave.db")
	s := mustOpen(f, path)
	f.Cleanup(func() { mustClose(f, s) })
	f.Fuzz(func(t *testing.T, data []byte) {
		if data == nil {
			data = []byte{}
		}
		if len(data) > store.MaxValue {
			return
		}
		mustApply(t, s, store.Change{Key: "a", Value: data})
		got, err := store.Load[value](t.Context(), s, "a")
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		put, err := store.Put("a", got["a"])
		if err != nil {
			t.Skip() // a time that JSON can read and can't write
		}
		mustApply(t, s, put)
		again, err := store.Load[value](t.Context(), s, "a")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Errorf("read, written and read again (-first +second):\n%s", diff)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "weave.db"))
	defer mustClose(b, s)
	n := 0
	for b.Loop() {
		mustApply(b, s, store.Change{Key: fmt.Sprintf("record/%08d", n), Value: make([]byte, 100)})
		n++
	}
}
