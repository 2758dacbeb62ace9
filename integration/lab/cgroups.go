// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// pluginCgroups returns the cgroups of the managed plugins on the disk of a host. Docker ignores --cgroup-parent for
// them: they are below the cgroup that dockerd itself is in, which is that of this process.
func pluginCgroups(dir string) []string {
	own, _ := os.ReadFile("/proc/self/cgroup") // lines such as 4:cpu,cpuacct:/path, see cgroups(7)
	plugins, _ := filepath.Glob(filepath.Join(dir, "docker/plugins/*/rootfs"))
	var found []string
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		for _, plugin := range plugins {
			found = append(found, filepath.Join(parts[len(parts)-1], filepath.Base(filepath.Dir(plugin))))
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// removeCgroups removes cgroups and those below them, in every hierarchy. It retries, because a cgroup can be removed
// only a moment after its last process has ended.
func removeCgroups(name string, others ...string) error {
	for _, cgroup := range append(others, name) {
		roots, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", cgroup))
		for _, root := range append(roots, filepath.Join("/sys/fs/cgroup", cgroup)) {
			if err := Poll(10*time.Second, func() error { return removeTree(root) }); err != nil {
				return fmt.Errorf("remove cgroup %s: %w", root, err)
			}
		}
	}
	return nil
}

// removeTree removes a cgroup's directory and those below it. The files in them need not be removed.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return syscall.Rmdir(dir)
}
