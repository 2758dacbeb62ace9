// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestListenMakesDirectoryAndSocket(t *testing.T) {
	for a, mode := range map[access]os.FileMode{forRoot: 0o600, forGroup(-1): 0o600, forGroup(os.Getgid()): 0o660} {
		path := socketPath(t)
		s, err := listenUnix(t.Context(), path, a)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		dir, err := os.Stat(filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got != os.ModeSocket|mode || dir.Mode().Perm() != a.dirs {
			t.Errorf("%+v: socket %v in a directory %v", a, got, dir.Mode())
		}
		if diff := cmp.Diff([]string{"weave.sock"}, entries(t, filepath.Dir(path))); diff != "" {
			t.Errorf("directory (-want +got):\n%s", diff)
		}
		if !answers(path) {
			t.Error("nobody answers")
		}
		if err := s.remove(t.Context()); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string(nil), entries(t, filepath.Dir(path))); diff != "" {
			t.Errorf("left behind (-want +got):\n%s", diff)
		}
	}
}

// deadSocket leaves a socket that nobody serves, as a process that was killed does.
func deadSocket(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestListenMakesDirectoriesForAll: members of the group can pass all directories that are made, even under the umask
// of the systemd unit.
func TestListenMakesDirectoriesForAll(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := filepath.Dir(socketPath(t))
	path := filepath.Join(dir, "a", "b", "weave.sock")
	s, err := listenUnix(t.Context(), path, forGroup(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, d := range []string{dir, filepath.Join(dir, "a"), filepath.Join(dir, "a", "b")} {
		info, err := os.Stat(d)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o711 {
			t.Errorf("%s: mode %o, want 711", d, got)
		}
	}
}

func TestListenReplacesDeadSocket(t *testing.T) {
	path := socketPath(t)
	deadSocket(t, path)
	deadSocket(t, filepath.Dir(path)+"/.weave.sock~") // of a process that was killed between the steps
	s, err := listenUnix(t.Context(), path, forRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !answers(path) {
		t.Error("nobody answers")
	}
}

func TestListenLeavesLivingSocketAlone(t *testing.T) {
	path := socketPath(t)
	first, err := listenUnix(t.Context(), path, forRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, err = listenUnix(t.Context(), path, forRoot)
	if err == nil || !strings.Contains(err.Error(), "another process serves it") {
		t.Errorf("%v, want that another process serves it", err)
	}
	if !answers(path) {
		t.Error("the first one's socket is gone")
	}
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"file":      func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink("/nonexistent", path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := socketPath(t)
			if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := put(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = listenUnix(t.Context(), path, forRoot)
			if err == nil || !strings.Contains(err.Error(), "not a socket") {
				t.Errorf("%v, want that it is not a socket", err)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) || after.Mode() != before.Mode() {
				t.Errorf("it was changed: %v, %v", after, err)
			}
		})
	}
}

func TestRemoveLeavesSuccessorsSocketAlone(t *testing.T) {
	path := socketPath(t)
	first, err := listenUnix(t.Context(), path, forRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := os.Remove(path); err != nil { // as `rm` by hand does
		t.Fatal(err)
	}
	second, err := listenUnix(t.Context(), path, forRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	for s, want := range map[*unixSocket]bool{first: false, second: true} {
		if there, err := s.there(); err != nil || there != want {
			t.Errorf("there: %t, error %v; want %t", there, err, want)
		}
	}
	if err := first.remove(t.Context()); err != nil {
		t.Error(err)
	}
	if !answers(path) {
		t.Error("the second one's socket is gone")
	}
}

// TestRemoveWithoutDirectory: the directory was removed, with the socket.
func TestRemoveWithoutDirectory(t *testing.T) {
	path := socketPath(t)
	s, err := listenUnix(t.Context(), path, forRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if err := s.remove(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOthersCantLock: a user who may only read the directory can't keep weave from making and removing sockets in it.
func TestOthersCantLock(t *testing.T) {
	path := socketPath(t)
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	s, err := listenUnix(t.Context(), path, forRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.locked(t.Context(), func() error {
		for _, name := range entries(t, filepath.Dir(path)) {
			info, err := os.Stat(filepath.Join(filepath.Dir(path), name))
			if err != nil {
				return err
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v: others can open it", name, info.Mode())
			}
		}
		return s.remove(t.Context()) // the lock is held: it has to wait, and gives up
	})
	if err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("two held the lock: %v", err)
	}
	if err := s.remove(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOnlyOneListens: of many that find a dead socket at once, one replaces it, and the others find its socket.
func TestOnlyOneListens(t *testing.T) {
	path := socketPath(t)
	deadSocket(t, path)
	var listening atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			s, err := listenUnix(context.Background(), path, forRoot)
			if err == nil {
				t.Cleanup(func() { s.Close() })
				listening.Add(1)
			} else if !strings.Contains(err.Error(), "another process serves it") {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := listening.Load(); n != 1 || !answers(path) {
		t.Errorf("%d listen, want 1", n)
	}
}
