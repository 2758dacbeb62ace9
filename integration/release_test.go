// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/integration/lab"
)

// A release contains the files of an installation and bills of materials. release.sh itself builds everything twice
// and fails if the two are not the same; the second build cache is kept, so that only the first run compiles
// everything again.
func TestRelease(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles everything when it runs for the first time, which takes a minute")
	}
	t.Parallel()
	tree, out := t.TempDir(), filepath.Join(t.TempDir(), "release")
	commitTree(t, tree, "v1.2.3")
	cache := "RELEASE_CACHE=" + filepath.Join(lab.Cache(), "release")
	run(t, "env", cache, filepath.Join(tree, "plugin/packaging/release.sh"), out, runtime.GOARCH)

	name := "weave-v1.2.3-linux-" + runtime.GOARCH
	entries, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, e := range entries {
		files = append(files, e.Name())
	}
	wanted := []string{"SHA256SUMS", name + ".nsproc.cdx.json", name + ".tar.gz", name + ".weave.cdx.json"}
	if !slices.Equal(files, wanted) {
		t.Fatalf("files %v, want %v", files, wanted)
	}
	if checked := run(t, "sh", "-c", "cd '"+out+"' && sha256sum -c SHA256SUMS"); strings.Count(checked, ": OK\n") != 3 {
		t.Errorf("checksums: %s", checked)
	}

	root := t.TempDir()
	run(t, "tar", "-xzf", filepath.Join(out, name+".tar.gz"), "-C", root, "--strip-components=1")
	want(t, run(t, filepath.Join(root, "bin/weave"), "version"), "weave v1.2.3 (commit ", "linux/"+runtime.GOARCH)
	for _, file := range []string{
		"libexec/weave/nsproc", "libexec/docker/cli-plugins/docker-weave", "lib/systemd/system/weave.service",
		"share/man/man8/weave-ps.8", "share/zsh/site-functions/_weave",
		"share/doc/weave/README.md", "share/doc/weave/LICENSE", "share/doc/weave/CHANGELOG.md",
	} {
		if info, err := os.Stat(filepath.Join(root, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s in the archive: %v", file, err)
		}
	}

	var bom struct {
		BOMFormat  string
		Components []struct{ Name, Version string }
	}
	b, err := os.ReadFile(filepath.Join(out, name+".weave.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &bom); err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for _, c := range bom.Components {
		modules[c.Name] = c.Version
	}
	if bom.BOMFormat != "CycloneDX" || modules["go.etcd.io/bbolt"] == "" || modules["std"] != runtime.Version() {
		t.Errorf("bill of materials: %s %v", bom.BOMFormat, modules)
	}
	for _, tool := range []string{
		"github.com/cpuguy83/go-md2man/v2", "github.com/CycloneDX/cyclonedx-gomod", "honnef.co/go/tools",
	} {
		if version, ok := modules[tool]; ok {
			t.Errorf("%s %s, a tool, is in the binary", tool, version)
		}
	}
}

// commitTree makes dir a git repository with one commit, which has the given tag and the files of this work tree,
// including those that are not committed.
func commitTree(t *testing.T, dir, tag string) {
	t.Helper()
	run(t, "sh", "-c", "cd .. && git ls-files -co --exclude-standard -z | tar --null -T - -c | tar -x -C '"+dir+"'")
	git := func(args ...string) {
		t.Helper()
		author := []string{"-C", dir, "-c", "user.name=test", "-c", "user.email=test@example.invalid"}
		run(t, "git", append(author, args...)...)
	}
	git("init", "-q")
	git("add", "-A")
	git("commit", "-q", "-m", "test")
	git("tag", tag)
}

// run runs a command of this machine and returns all of its output. It fails t if the command fails.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
