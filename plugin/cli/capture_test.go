// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// TestLateFile: a file is emptied by the first write, and what can't be written is an error.
func TestLateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.pcapng")
	for _, texts := range [][]string{{"a long ", "text"}, {}, {"short"}} {
		f := &lateFile{path: path}
		for _, text := range texts {
			if _, err := io.WriteString(f, text); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); len(texts) == 0 && string(b) != "a long text" || err != nil {
			t.Errorf("without a write: %q, %v", b, err)
		}
	}
	if b, err := os.ReadFile(path); string(b) != "short" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
	f := &lateFile{path: filepath.Join(path, "x")}
	if _, err := f.Write([]byte("x")); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below a file: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
