// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// coverDir returns the directory for the coverage data of this process, an empty string where coverage is not
// measured. A test binary reads all data in it when it ends, including those from other processes of the same binary.
func coverDir() string {
	if testing.CoverMode() == "" {
		return ""
	}
	return flag.Lookup("test.gocoverdir").Value.String()
}

// measureCoverage has cmd, a child that runs this binary's tests, write its coverage data. The function that it returns
// adds them to those of this process, after the child has ended. Until then they have a directory of their own: a test
// binary that ends reads all of its directory, and must find no file that another process is about to write.
func measureCoverage(t *testing.T, cmd *exec.Cmd) (collect func()) {
	dir, err := os.MkdirTemp(coverDir(), "child")
	if err != nil {
		t.Fatalf("make a directory for coverage data: %v", err)
	}
	cmd.Args = append(cmd.Args, "-test.gocoverdir="+dir)
	return func() {
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files {
			err = errors.Join(err, os.Rename(f, filepath.Join(coverDir(), filepath.Base(f))))
		}
		if err := errors.Join(err, os.Remove(dir)); err != nil {
			t.Errorf("collect coverage data: %v", err)
		}
	}
}
