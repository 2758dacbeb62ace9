// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/store"
)

func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("not a state"))
	f.Add(state(f, func(store.Store) {}))
	f.Add(state(f, fillPages))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "weave.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.OpenBolt(t.Context(), path)
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
