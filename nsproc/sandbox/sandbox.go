// Package sandbox opens a container's network namespace by Docker's SandboxKey, without entering it. It runs in the
// host's namespace.
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
	// ErrGone means that nothing is at the sandbox's path: the container has ended.
	ErrGone = errors.New("no such sandbox: the container has ended")
	// ErrNotVisible means that the path exists but the namespace that Docker mounted there can't be seen from here.
	ErrNotVisible = errors.New("the sandbox's mount is not visible here: / or /run must be a shared mount on the host: run mount --make-rshared / there and restart Docker")
)

// Root is where the host's directories are mounted: "/host" in a managed plugin, which has the host's /run there; empty
// where the host's paths can be used as they are.
type Root string

// Open opens the network namespace at path, the absolute path that Docker gives as SandboxKey. Errors wrap ErrGone or
// ErrNotVisible where these are the reason. The caller closes the file.
func (r Root) Open(path string) (*os.File, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, fmt.Errorf("open sandbox %q: want an absolute path in its shortest form", path)
	}
	full := r.locate(path)
	// A stale mount point is a plain file; O_NONBLOCK keeps anything else, such as a FIFO, from blocking.
	fd, err := unix.Open(full, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT) && !exists(filepath.Dir(full)): // not one sandbox is known here
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

// locate puts the root in front of path. Docker's key begins with /var/run, on the host a symbolic link to /run.
func (r Root) locate(path string) string {
	if r == "" {
		return path
	}
	if rest, ok := strings.CutPrefix(path, "/var/run/"); ok {
		path = "/run/" + rest
	}
	return filepath.Join(string(r), path)
}

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
		return fmt.Errorf("ask for the kind of namespace: %w", err)
	}
	if kind != unix.CLONE_NEWNET {
		return errors.New("not a network namespace")
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
