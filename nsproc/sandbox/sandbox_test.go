// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestOpen(t *testing.T) {
	ns := nstest.New(t)
	file, err := Root("").Open(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var got, want unix.Stat_t
	if err := errors.Join(unix.Fstat(int(file.Fd()), &got), unix.Fstat(ns.FD(), &want)); err != nil {
		t.Fatal(err)
	}
	if got.Ino != want.Ino || got.Dev != want.Dev {
		t.Error("another namespace was opened")
	}
	if flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, error %v: the descriptor would be inherited", flags, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	plain, fifo := filepath.Join(dir, "plain"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(plain, nil, 0o600), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, path string
		want       error // nil: any
	}{
		{"gone", filepath.Join(dir, "none"), ErrGone},
		{"a mount point without its mount", plain, ErrNotVisible},
		{"a FIFO", fifo, ErrNotVisible},
		{"a directory", dir, ErrNotVisible},
		{"another kind of namespace", "/proc/self/ns/uts", nil},
		{"relative", "run/docker/netns/x", nil},
		{"out of the root", "/run/../etc/passwd", nil},
		{"empty", "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file, err := Root("").Open(tc.path)
			if err == nil {
				file.Close()
				t.Fatal("it was opened")
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("got error %v, want %v", err, tc.want)
			}
		})
	}
}

// TestOpenRefusesTheHost: whatever leads to it, the host's own namespace is no sandbox.
func TestOpenRefusesTheHost(t *testing.T) {
	if nstest.Reexec(t) { // for the mount
		return
	}
	dir := t.TempDir()
	link, mount := filepath.Join(dir, "link"), filepath.Join(dir, "mount")
	err := errors.Join(
		os.Symlink("/proc/self/ns/net", link),
		os.WriteFile(mount, nil, 0o600),
		unix.Mount("/proc/self/ns/net", mount, "", unix.MS_BIND, ""),
	)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	own := fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	for _, path := range []string{"/proc/self/ns/net", "/proc/thread-self/ns/net", own, link, mount} {
		file, err := Root("").Open(path)
		if !errors.Is(err, ErrHost) {
			t.Errorf("%s: %v, want ErrHost", path, err)
		}
		if err == nil {
			file.Close()
		}
	}
}

func TestLocate(t *testing.T) {
	for _, tc := range []struct {
		root       Root
		path, want string
	}{
		{"", "/var/run/docker/netns/1", "/var/run/docker/netns/1"},
		{"/host", "/var/run/docker/netns/1", "/host/run/docker/netns/1"},
		{"/host", "/run/docker/netns/1", "/host/run/docker/netns/1"},
		{"/host", "/var/runner/1", "/host/var/runner/1"},
	} {
		if got := tc.root.locate(tc.path); got != tc.want {
			t.Errorf("%s under %q is %s, want %s", tc.path, tc.root, got, tc.want)
		}
	}
}
