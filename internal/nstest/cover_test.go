// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// What runs in a child of Reexec only, and in nsproc, is in the coverage data of a test binary that measures it.
func TestCoverage(t *testing.T) {
	New(t) // or skip
	data := t.TempDir()
	binary, profile := filepath.Join(t.TempDir(), "test"), filepath.Join(t.TempDir(), "profile")
	run := func(name string, args ...string) []byte {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Env = append(os.Environ(), buildsEnv+"=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return out
	}
	run("go", "test", "-c", "-cover", "-o", binary, ".")
	run(binary, "-test.run=^(TestNsproc|TestReexecInSubtest)$", "-test.gocoverdir="+data, "-test.coverprofile="+profile)

	functions := run("go", "tool", "cover", "-func="+profile)
	setUp := regexp.MustCompile(`\ssetUpNamespaces\s+(\S+)%`)
	if m := setUp.FindSubmatch(functions); m == nil || string(m[1]) == "0.0" {
		t.Errorf("setUpNamespaces, which only a child of Reexec runs, is not covered:\n%s", functions)
	}
	functions = run("go", "tool", "covdata", "func", "-i="+data)
	answer := regexp.MustCompile(`nsproc/main.go:\d+:\s+answer\s+(\S+)%`)
	if m := answer.FindSubmatch(functions); m == nil || string(m[1]) == "0.0" {
		t.Errorf("nsproc's answer is not covered:\n%s", functions)
	}
	if left, err := filepath.Glob(filepath.Join(data, "child*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
