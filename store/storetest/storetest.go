// SPDX-License-Identifier: Apache-2.0

// Package storetest holds the tests that every store.Store must pass. It is for tests only.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/store"
)

// Place opens one state, each time it is called. The tests close the store before they open it again.
type Place func(t *testing.T) store.Store

// Run tests the stores that newPlace returns. Each call of newPlace is for another, empty store.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, open Place)
	}{
		{"an empty store has no records", testEmpty},
		{"records are ordered by key", testOrder},
		{"a prefix selects", testPrefix},
		{"values come back as they were", testValues},
		{"List returns copies", testCopies},
		{"changes are made in their order", testChangeOrder},
		{"removing a missing record is no error", testRemoveMissing},
		{"a refused change changes nothing", testAtomic},
		{"invalid keys and values are refused", testInvalid},
		{"a cancelled call does nothing", testCancelled},
		{"records outlast Close", testReopen},
		{"the identity stays", testIdentity},
		{"calls after Close are errors", testClosed},
		{"several goroutines may use a store", testConcurrent},
		{"a reader sees whole changes", testIsolation},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, newPlace(t)) })
	}
}

func opened(t *testing.T, open Place) store.Store {
	t.Helper()
	s := open(t)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func put(key, value string) store.Change { return store.Change{Key: key, Value: []byte(value)} }

func record(key, value string) store.Record { return store.Record{Key: key, Value: []byte(value)} }

func apply(t *testing.T, s store.Store, changes ...store.Change) {
	t.Helper()
	if err := s.Apply(t.Context(), changes...); err != nil {
		t.Fatalf("apply: %v", err)
	}
}

// texts returns the records as text, because cmp takes many seconds to compare a megabyte of bytes.
func texts(records []store.Record) (out []string) {
	for _, r := range records {
		out = append(out, fmt.Sprintf("%q: %q", r.Key, r.Value))
	}
	return out
}

func wantRecords(t *testing.T, s store.Store, prefix string, want ...store.Record) {
	t.Helper()
	got, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatalf("list %q: %v", prefix, err)
	}
	if diff := cmp.Diff(texts(want), texts(got)); diff != "" {
		t.Fatalf("records of prefix %q (-want +got):\n%s", prefix, diff)
	}
}

func testEmpty(t *testing.T, open Place) {
	s := opened(t, open)
	wantRecords(t, s, "")
	wantRecords(t, s, "network/")
	apply(t, s)
	wantRecords(t, s, "")
}

func testOrder(t *testing.T, open Place) {
	s := opened(t, open)
	apply(t, s, put("b", "2"), put("a/2", "1"), put("\xff", "4"))
	apply(t, s, put("é", "3"), put("a/10", "0"), put("B", "-1"))
	wantRecords(t, s, "",
		record("B", "-1"), record("a/10", "0"), record("a/2", "1"),
		record("b", "2"), record("é", "3"), record("\xff", "4"))
}

func testPrefix(t *testing.T, open Place) {
	s := opened(t, open)
	apply(t, s, put("pool", "0"), put("pool/", "1"), put("pool/a", "2"), put("pool0", "3"), put("poo", "4"))
	wantRecords(t, s, "pool/", record("pool/", "1"), record("pool/a", "2"))
	wantRecords(t, s, "pool/b")
	wantRecords(t, s, "q")
}

func testValues(t *testing.T, open Place) {
	s := open(t)
	long := strings.Repeat("x", store.MaxValue)
	key := strings.Repeat("k", store.MaxKey)
	empty := store.Change{Key: "empty", Value: []byte{}}
	apply(t, s, empty, put("binary", "\x00\xff\n"), put("long", long), put(key, "v"))
	wantRecords(t, s, "", record("binary", "\x00\xff\n"), record("empty", ""), record(key, "v"), record("long", long))
	apply(t, s, put("long", ""), put("empty", "x"))
	apply(t, s, put("long", "short"), put("empty", ""), store.Delete(key))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, opened(t, open), "", record("binary", "\x00\xff\n"), record("empty", ""), record("long", "short"))
}

func testCopies(t *testing.T, open Place) {
	s := opened(t, open)
	value := []byte("one")
	apply(t, s, store.Change{Key: "a", Value: value})
	copy(value, "xxx")
	got, err := s.List(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	copy(got[0].Value, "yyy")
	wantRecords(t, s, "a", record("a", "one"))
}

func testChangeOrder(t *testing.T, open Place) {
	s := opened(t, open)
	apply(t, s, put("a", "1"), put("a", "2"), put("b", "1"), store.Delete("b"), store.Delete("c"), put("c", "1"))
	wantRecords(t, s, "", record("a", "2"), record("c", "1"))
}

func testRemoveMissing(t *testing.T, open Place) {
	s := opened(t, open)
	apply(t, s, put("a", "1"))
	apply(t, s, store.Delete("b"), store.Delete("a"), store.Delete("a"))
	apply(t, s, store.Delete("a"))
	wantRecords(t, s, "")
}

func testAtomic(t *testing.T, open Place) {
	s := opened(t, open)
	apply(t, s, put("a", "1"))
	if err := s.Apply(t.Context(), put("a", "2"), put("b", "2"), store.Delete("a"), put("", "2")); err == nil {
		t.Fatal("a change without a key was made")
	}
	wantRecords(t, s, "", record("a", "1"))
}

func testInvalid(t *testing.T, open Place) {
	s := opened(t, open)
	for name, c := range map[string]store.Change{
		"empty key":             put("", "v"),
		"removal of empty key":  store.Delete(""),
		"NUL in the key":        put("a\x00b", "v"),
		"removal of a NUL key":  store.Delete("\x00"),
		"key that is too long":  put(strings.Repeat("k", store.MaxKey+1), "v"),
		"value that is too big": {Key: "a", Value: make([]byte, store.MaxValue+1)},
	} {
		if err := s.Apply(t.Context(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	wantRecords(t, s, "")
}

func testCancelled(t *testing.T, open Place) {
	s := opened(t, open)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Apply(ctx, put("a", "1")); !errors.Is(err, context.Canceled) {
		t.Errorf("apply: %v", err)
	}
	if _, err := s.List(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
	wantRecords(t, s, "")
}

func testReopen(t *testing.T, open Place) {
	s := open(t)
	apply(t, s, put("a", "1"), put("b", "2"))
	apply(t, s, store.Delete("a"), put("c", "3"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantRecords(t, opened(t, open), "", record("b", "2"), record("c", "3"))
}

func testIdentity(t *testing.T, open Place) {
	s := open(t)
	id, err := store.Identity(t.Context(), s)
	if err != nil || len(id) != 16 {
		t.Fatalf("identity %q: %v", id, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := store.Identity(t.Context(), opened(t, open))
	if err != nil || again != id {
		t.Fatalf("identity %q, was %q: %v", again, id, err)
	}
}

func testClosed(t *testing.T, open Place) {
	s := open(t)
	apply(t, s, put("a", "1"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(t.Context(), put("a", "2")); err == nil {
		t.Error("apply after close succeeded")
	}
	if _, err := s.List(t.Context(), ""); err == nil {
		t.Error("list after close succeeded")
	}
	wantRecords(t, opened(t, open), "", record("a", "1"))
}

func testConcurrent(t *testing.T, open Place) {
	s := opened(t, open)
	const writers, each = 8, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range each {
				key := fmt.Sprintf("%d/%02d", w, n)
				before := store.Delete(fmt.Sprintf("%d/%02d", w, n-1))
				if err := s.Apply(t.Context(), put(key, key), before); err != nil {
					t.Errorf("apply: %v", err)
				}
				own, err := s.List(t.Context(), fmt.Sprintf("%d/", w))
				if err != nil || len(own) != 1 || own[0].Key != key {
					t.Errorf("list: %v, %v: want %s alone", own, err, key)
				}
			}
		})
	}
	wg.Wait()
	all, err := s.List(t.Context(), "")
	if err != nil || len(all) != writers {
		t.Fatalf("%d records, %v: want %d", len(all), err, writers)
	}
}

func testIsolation(t *testing.T, open Place) {
	s := opened(t, open)
	apply(t, s, put("a", "0"), put("z", "0"))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for n := range 50 {
			v := fmt.Sprint(n)
			if err := s.Apply(t.Context(), put("a", v), put("z", v)); err != nil {
				t.Errorf("apply: %v", err)
			}
		}
	})
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		got, err := s.List(t.Context(), "")
		if err != nil || len(got) != 2 || string(got[0].Value) != string(got[1].Value) {
			t.Errorf("list: %v, %v: want two records with one value", got, err)
		}
	}
	wg.Wait()
}
