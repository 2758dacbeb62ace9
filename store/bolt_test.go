// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

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
	s, err := store.OpenBolt(t.Context(), path)
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

// state returns the bytes of a new state in which the changes were made.
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

func BenchmarkApply(b *testing.B) {
	s := mustOpen(b, filepath.Join(b.TempDir(), "weave.db"))
	defer mustClose(b, s)
	n := 0
	for b.Loop() {
		mustApply(b, s, store.Change{Key: fmt.Sprintf("record/%08d", n), Value: make([]byte, 100)})
		n++
	}
}

// BenchmarkOpen opens a state of 1,000 endpoints.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "weave.db")
	s := mustOpen(b, path)
	for n := range 1000 {
		mustApply(b, s, store.Change{Key: fmt.Sprintf("endpoint/%064x", n*7919), Value: make([]byte, 300)})
	}
	mustClose(b, s)
	for b.Loop() {
		mustClose(b, mustOpen(b, path))
	}
}
