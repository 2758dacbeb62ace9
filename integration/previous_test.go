// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// previousCommit is the version from which upgrades are tested: the last one before the plugin was split into packages.
const previousCommit = "1cc5d19192c605e40b6ed02fc54f023b870424af"

// previousVersion is the version that its binary reports.
const previousVersion = "previous"

// previousPlugin returns a directory with the managed plugin of previousCommit: config.json and rootfs, with weave
// and nsproc at the top. The first call builds it, with the Makefile of that commit. It skips t where the history
// lacks the commit, as in a shallow clone, but not in CI.
func previousPlugin(t *testing.T) string {
	t.Helper()
	if out, err := exec.Command("git", "cat-file", "-e", previousCommit+"^{commit}").CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI needs a clone with the whole history, for commit %s: %v\n%s", previousCommit, err, out)
		}
		t.Skipf("git does not have commit %s (git fetch --unshallow gets it): %v\n%s", previousCommit, err, out)
	}
	return lab.Cached(t, "weave-"+previousCommit[:12]+"-"+runtime.GOARCH, buildPrevious)
}

// buildPrevious builds the managed plugin of previousCommit in dir.
func buildPrevious(dir string) error {
	tree, err := os.MkdirTemp(dir, "tree-")
	if err != nil {
		return err
	}
	build := exec.Command("sh", "-ec", `
		git -C .. archive "$2" | tar -x -C "$1"
		make -C "$1" plugin-files VERSION="$3" COMMIT="$2"
		mv "$1"/build/plugin/* "$4"
		rm -rf "$1"
	`, "sh", tree, previousCommit, previousVersion, dir)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the plugin of commit %s: %w\n%s", previousCommit, err, out)
	}
	return nil
}

// copyPrevious returns a copy of previousPlugin, for t to change.
func copyPrevious(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run(t, "cp", "-a", previousPlugin(t)+"/.", dir)
	return dir
}
