// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module is this project's module path.
const module = "github.com/weaveplugin/weave"

// buildsEnv names the directory with the binaries that were built for the tests. Processes that a test starts inherit
// it.
const buildsEnv = "WEAVE_TEST_BUILDS"

// Main runs the tests of a package and returns their exit status. A package whose tests need nsproc has
//
//	func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }
//
// so that nsproc is built once for the whole package, the children of Reexec included.
func Main(m *testing.M) int {
	if os.Getenv(buildsEnv) != "" {
		return m.Run() // in a child of Reexec: the directory belongs to its parent
	}
	flag.Parse()
	if dir := coverDir(); dir != "" {
		if err := os.Setenv("GOCOVERDIR", dir); err != nil { // for programs that the tests start
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	builds, err := os.MkdirTemp("", "weave-builds")
	if err != nil {
		fmt.Fprintf(os.Stderr, "make a directory for the binaries that tests need: %v\n", err)
		return 1
	}
	defer os.RemoveAll(builds)
	if err := os.Setenv(buildsEnv, builds); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// Nsproc returns the path of an nsproc that enters the namespace that it is given, as the released one does.
func Nsproc(t testing.TB) string {
	t.Helper()
	return BuildNsproc(t, "-E weave_nsproc_entry")
}

// BuildNsproc returns the path of an nsproc that was built with these linker flags and additions to the environment. It
// exists as long as the test, or, in a package with Main, as long as the test binary runs. Where the tests' coverage is
// measured, so is that of an nsproc for this machine.
func BuildNsproc(t testing.TB, ldflags string, env ...string) string {
	t.Helper()
	dir := os.Getenv(buildsEnv)
	if dir == "" {
		dir = t.TempDir()
	}
	name := append(append([]string{"nsproc"}, strings.Fields(ldflags)...), env...)
	path := filepath.Join(dir, strings.Join(name, "_"))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path
	}
	cover := coverDir() != "" && len(env) == 0
	if err := buildNsproc(t, path, ldflags, env, cover); err != nil {
		t.Fatalf("build nsproc: %v", err)
	}
	return path
}

// buildNsproc builds nsproc elsewhere and moves it to path, so that path never leads to an incomplete file. Two tests
// that do this at the same time do no harm: a process that runs the first binary keeps it.
func buildNsproc(t testing.TB, path, ldflags string, env []string, cover bool) error {
	work, err := os.MkdirTemp(filepath.Dir(path), "build")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	binary := filepath.Join(work, "nsproc")
	args := []string{"build", "-ldflags", ldflags, "-o", binary}
	if cover {
		args = append(args, "-cover", "-covermode="+testing.CoverMode(), "-coverpkg="+module+"/...")
	}
	cmd := exec.CommandContext(t.Context(), "go", append(args, module+"/nsproc")...)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if !cover {
		return os.Rename(binary, path)
	}
	// The plugin gives nsproc an environment of its own, so a script has to say where the coverage data goes.
	covered, script := path+".covered", filepath.Join(work, "script")
	text := fmt.Sprintf("#!/bin/sh\nexport GOCOVERDIR='%s'\nexec '%s'\n", os.Getenv("GOCOVERDIR"), covered)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		return err
	}
	return errors.Join(os.Rename(binary, covered), os.Rename(script, path))
}
