// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// runNsproc runs the nsproc at path in ns and returns what it writes.
func runNsproc(t *testing.T, ns *NS, path string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path)
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.ExtraFiles = []*os.File{ns.File()}
	cmd.Stdin = strings.NewReader(`{"version":1,"list":{}}`)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run %s: %v: %q", path, err, out)
	}
	return out
}

func TestNsproc(t *testing.T) {
	ns := New(t)
	path := Nsproc(t)
	if out := runNsproc(t, ns, path); !strings.Contains(string(out), "lo\x00") {
		t.Errorf("got %q, want a list with lo", out)
	}
	t.Setenv("PATH", "") // from here on nothing can be built
	if again := Nsproc(t); again != path {
		t.Errorf("%s was built once more, as %s", path, again)
	}
}

// The parent and later children use what a child has built.
func TestReexecSharesBuilds(t *testing.T) {
	const ldflags = "-s -w -E weave_nsproc_entry"
	t.Run("in a child", func(t *testing.T) {
		if !Reexec(t) {
			BuildNsproc(t, ldflags)
		}
	})
	t.Run("after it", func(t *testing.T) {
		t.Setenv("PATH", "")
		runNsproc(t, New(t), BuildNsproc(t, ldflags))
	})
	t.Run("in another child", func(t *testing.T) {
		if !Reexec(t) {
			t.Setenv("PATH", "")
			BuildNsproc(t, ldflags)
		}
	})
}

// Without Main a binary lasts as long as the test that it was built for.
func TestBuildWithoutMain(t *testing.T) {
	t.Setenv(buildsEnv, "")
	path := ""
	t.Run("builds", func(t *testing.T) { path = Nsproc(t) })
	if _, err := os.Stat(path); path == "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%q: got %v, want it to be gone", path, err)
	}
}

// printBuildsEnv has TestMainRemovesBuilds, in a process of its own, print the directory with what was built.
const printBuildsEnv = "WEAVE_TEST_PRINT_BUILDS"

func TestMainRemovesBuilds(t *testing.T) {
	if os.Getenv(printBuildsEnv) != "" {
		if _, err := os.Stat(os.Getenv(buildsEnv)); err != nil {
			t.Error(err)
		}
		fmt.Printf("builds %s\n", os.Getenv(buildsEnv))
		return
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestMainRemovesBuilds$")
	cmd.Env = append(os.Environ(), printBuildsEnv+"=1", buildsEnv+"=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var dir string
	if _, err := fmt.Sscanf(string(out), "builds %s\n", &dir); err != nil || dir == os.Getenv(buildsEnv) {
		t.Fatalf("got %q, want a directory of its own", out)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: got %v, want it to be gone", dir, err)
	}
}
