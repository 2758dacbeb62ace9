// SPDX-License-Identifier: Apache-2.0

// Package sandbox opens a container's network namespace by the path that Docker gives, its SandboxKey, without
// entering it. It runs in the host's namespace.
package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	// ErrGone means that there is nothing at the sandbox's path.
	ErrGone = errors.New("no such sandbox: the container has ended")
	// ErrNotVisible means that the plugin, in a mount namespace of its own, does not see what Docker mounted at the
	// path.
	ErrNotVisible = errors.New("the sandbox's mount is not visible here: " +
		"/ or /run must be a shared mount on the host: run mount --make-rshared / there and restart Docker")
	// ErrHost means that the path leads to the host's own network namespace. No container that has it joins a network,
	// and what is done in a sandbox must not be done on the host.
	ErrHost = errors.New("it is the host's own network namespace, not a container's")
)

// Root is the directory where the host's file system is mounted: "/host" in a managed plugin, empty where the host's
// paths can be used as they are.
type Root string

// Open opens the network namespace at path, Docker's SandboxKey: a path on the host, absolute and clean. The error
// wraps ErrGone, ErrNotVisible or ErrHost if that is the reason. The caller closes the file.
func (r Root) Open(path string) (*os.File, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, fmt.Errorf("open sandbox %q: want an absolute path that has no . or .. in it", path)
	}
	full := r.locate(path)
	// O_NONBLOCK, because opening anything else that might be there, such as a FIFO, must not block.
	fd, err := unix.Open(full, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT) && !exists(filepath.Dir(full)): // the directory for all sandboxes is missing
		return nil, fmt.Errorf("open sandbox %s: %w", full, ErrNotVisible)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESRCH):
		return nil, fmt.Errorf("open sandbox %s: %w", full, ErrGone)
	case err != nil:
		return nil, fmt.Errorf("open sandbox: %w", &fs.PathError{Op: "open", Path: full, Err: err})
	}
	if err := checkNetwork(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open sandbox %s: %w", full, err)
	}
	return os.NewFile(uintptr(fd), full), nil
}

// locate returns where a path of the host is below the root. Docker's keys begin with /var/run, which is a symbolic
// link to /run on the host and leads nowhere below the root.
func (r Root) locate(path string) string {
	if r == "" {
		return path
	}
	if rest, ok := strings.CutPrefix(path, "/var/run/"); ok {
		path = "/run/" + rest
	}
	return filepath.Join(string(r), path)
}

// checkNetwork reports an error unless fd is open on a network namespace. What Docker mounts the namespace on is a
// regular file, so that is what is seen where the mount is not visible.
func checkNetwork(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if st.Type != unix.NSFS_MAGIC {
		return ErrNotVisible
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("get the kind of namespace: %w", err)
	}
	if kind != unix.CLONE_NEWNET {
		return errors.New("not a network namespace")
	}
	return checkNotHost(fd)
}

// checkNotHost returns ErrHost if fd is open on this process's own network namespace, which is the host's: no thread
// of it ever changes its namespace. (In tests some threads do, so it is the calling thread's that counts.) A path does
// not tell, since a symbolic link or a mount can lead there.
func checkNotHost(fd int) error {
	var host, st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &host); err != nil {
		return fmt.Errorf("look up the host's network namespace: %w", err)
	}
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat: %w", err)
	}
	if st.Dev == host.Dev && st.Ino == host.Ino {
		return ErrHost
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
