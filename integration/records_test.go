// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
	"github.com/weaveplugin/weave/store"
)

// records returns the keys of all records in the plugin's state, in order. It stops the plugin and starts it again.
func records(t *testing.T, h *lab.Host, p *lab.Plugin) []string {
	t.Helper()
	p.Stop(t)
	defer p.Restart(t)
	keys, err := recordsIn(stateFiles(t, h))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// recordsNow is like records for a plugin that keeps running. It reads copies of the files and can fail if the plugin
// has written to them at the same time.
func recordsNow(t *testing.T, h *lab.Host) ([]string, error) {
	t.Helper()
	dir := t.TempDir()
	var copies []string
	for _, path := range stateFiles(t, h) {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		copied := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(copied, b, 0o600); err != nil {
			return nil, err
		}
		copies = append(copies, copied)
	}
	return recordsIn(copies)
}

// stateFiles returns the paths, on this machine, of the plugin's state: the file of endpoints, which a reboot
// deletes, and the other one, which it does not.
func stateFiles(t *testing.T, h *lab.Host) []string {
	t.Helper()
	endpoints, err := filepath.Glob(h.Path("/run/weave/endpoints-*.db"))
	if err != nil || len(endpoints) != 1 {
		t.Fatalf("files of endpoints %v (%v), want one", endpoints, err)
	}
	return append(endpoints, h.Path(statePath))
}

const statePath = "/var/lib/weave/weave.db"

func recordsIn(paths []string) (keys []string, err error) {
	for _, path := range paths {
		s, err := store.OpenBolt(context.Background(), path)
		if err != nil {
			return nil, err
		}
		defer func() { _ = s.Close() }() // it was only read
		all, err := s.List(context.Background(), "")
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if strings.HasPrefix(r.Key, "address/") && !bytes.Contains(r.Value, []byte(`"held":`)) {
				continue // a released address, which is recorded so that it is given out again only after all others
			}
			keys = append(keys, r.Key)
		}
	}
	return keys, nil
}
