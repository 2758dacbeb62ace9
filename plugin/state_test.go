// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/weaveplugin/weave/plugin/daemon"
	"github.com/weaveplugin/weave/store"
)

// TestUnusableStateIsRefused: the daemon ends with the reason, and the file stays as it is.
func TestUnusableStateIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		want error
	}{
		{"damaged", func(t *testing.T, path string) {
			makeState(t, path)
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for page := range int64(8) {
				if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 64), page*4096+16); err != nil {
					t.Fatal(err)
				}
			}
		}, store.ErrDamaged},
		{"empty", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, store.ErrDamaged},
		{"of the future", func(t *testing.T, path string) {
			makeState(t, path)
			setVersion(t, path, "99")
		}, store.ErrFuture},
		{"in use", func(t *testing.T, path string) {
			st, err := store.OpenBolt(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := st.Close(); err != nil {
					t.Error(err)
				}
			})
		}, store.ErrLocked},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := newConfig(t)
			c.make(t, cfg.State)
			before, err := os.ReadFile(cfg.State)
			if err != nil {
				t.Fatal(err)
			}
			err = daemon.Serve(t.Context(), cfg, newProgram(cfg, quiet()), quiet())
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), cfg.State) {
				t.Errorf("%v, want %v with the path", err, c.want)
			}
			if after, err := os.ReadFile(cfg.State); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the state was changed (%v)", err)
			}
			if left, err := os.ReadDir(filepath.Dir(cfg.PluginSockets[0])); err != nil || len(left) != 0 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// makeState makes a state as weave does.
func makeState(t *testing.T, path string) {
	t.Helper()
	st, err := store.OpenBolt(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Identity(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// setVersion writes another version into the state.
func setVersion(t *testing.T, path, version string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte(version))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
