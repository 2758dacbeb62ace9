// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"debug/elf"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The root file system contains all files that are loaded and no others, and it is smaller than 40 MiB.
func TestManagedPluginRootFS(t *testing.T) {
	t.Parallel()
	const most = 40 << 20
	root := filepath.Join(managedDir(t), "rootfs")
	var size int64
	have, needed := map[string]bool{}, map[string]bool{"weave": true, "nsproc": true}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		if filepath.Base(filepath.Dir(path)) == "xtables" || strings.HasPrefix(entry.Name(), "xtables-") {
			needed[entry.Name()] = true // iptables loads these by name, and the plugin starts them
		}
		have[entry.Name()] = true
		return addNeeded(needed, path)
	})
	if err != nil {
		t.Fatal(err)
	}
	if size > most {
		t.Errorf("%d bytes, want at most %d", size, most)
	}
	t.Logf("%.1f MiB in %d files", float64(size)/(1<<20), len(have))
	for name := range needed {
		if !have[name] {
			t.Errorf("%s is needed and not there", name)
		}
	}
	for name := range have {
		if !needed[name] {
			t.Errorf("%s is there and nothing needs it", name)
		}
	}
	for _, command := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"-save", "-restore"} {
			name := filepath.Join(root, "usr/sbin", command+"-legacy"+suffix)
			if target, err := os.Readlink(name); target != "xtables-legacy-multi" {
				t.Errorf("%s leads to %q, %v", name, target, err)
			}
		}
	}
}

// addNeeded adds the names of the libraries and of the interpreter of an ELF file to needed.
func addNeeded(needed map[string]bool, path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	if section := f.Section(".interp"); section != nil {
		b, err := section.Data()
		if err != nil {
			return err
		}
		libraries = append(libraries, strings.TrimRight(string(b), "\x00"))
	}
	for _, library := range libraries {
		needed[filepath.Base(library)] = true
	}
	return nil
}
