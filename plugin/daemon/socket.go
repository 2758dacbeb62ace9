// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// unixSocket listens at a path in the file system and knows the file that it made there.
type unixSocket struct {
	net.Listener
	path string
	file os.FileInfo
}

// dialTimeout is how long an existing socket gets to answer.
const dialTimeout = 2 * time.Second

// access says who may connect to a socket besides root.
type access struct {
	gid  int         // members of this group; -1: nobody
	dirs os.FileMode // of directories that are made for it
}

// rootOnly reports whether the socket is one of those that Docker calls.
func (a access) rootOnly() bool { return a == forRoot }

// forRoot is for the sockets that Docker calls. Docker itself makes their directory with the same mode.
var forRoot = access{gid: -1, dirs: 0o700}

// forGroup is for the API's socket. Its directory lets all users pass because the group may be changed later, while the
// directory stays.
func forGroup(gid int) access { return access{gid: gid, dirs: 0o711} }

// listenUnix listens at path for those who have access. It replaces a socket that no process serves any more; one that
// is served, or any other file, is an error and stays as it is. It makes the directory if there is none.
func listenUnix(ctx context.Context, path string, a access) (*unixSocket, error) {
	if err := makeDir(filepath.Dir(path), a.dirs); err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	s := &unixSocket{path: path}
	err := s.locked(ctx, func() error {
		if err := checkFree(ctx, path); err != nil {
			return err
		}
		return s.listen(a.gid)
	})
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", path, err)
	}
	return s, nil
}

// listen makes the socket under a temporary name, and renames it when it has the right owner and mode.
func (s *unixSocket) listen(gid int) (err error) {
	dir, base := filepath.Split(s.path)
	temp := dir + "." + base + "~"
	if err := os.Remove(temp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close()) // removes temp
		}
	}()
	mode := os.FileMode(0o600)
	if gid >= 0 {
		mode = 0o660
	}
	if err := os.Chown(temp, -1, gid); err != nil {
		return err
	}
	if err := os.Chmod(temp, mode); err != nil {
		return err
	}
	if s.file, err = os.Lstat(temp); err != nil {
		return err
	}
	if err := os.Rename(temp, s.path); err != nil {
		return err
	}
	l.SetUnlinkOnClose(false) // that would remove temp, which is renamed; method remove removes the socket
	s.Listener = l
	return nil
}

// checkFree returns an error if there is a file at path other than a socket that no process serves.
func checkFree(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("there is a file that is not a socket: move it away, or choose another path")
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		return errors.Join(errors.New("another process serves it, perhaps a weave plugin that is installed already: "+
			"stop that one first, or choose another path"), conn.Close())
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		return nil // its process has ended
	default:
		return fmt.Errorf("there is a socket, and whether it is in use could not be found out: %w", err)
	}
}

// there reports whether the socket is still at its path.
func (s *unixSocket) there() (bool, error) {
	file, err := os.Lstat(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(file, s.file), err
}

// remove removes the socket from the file system if it is still this one. Connections go on.
func (s *unixSocket) remove(ctx context.Context) error {
	if _, err := os.Stat(filepath.Dir(s.path)); errors.Is(err, os.ErrNotExist) {
		return nil // it was removed with its directory
	}
	err := s.locked(ctx, func() error {
		if there, err := s.there(); err != nil || !there {
			return err
		}
		return os.Remove(s.path)
	})
	if err != nil {
		return fmt.Errorf("remove the socket: %w", err)
	}
	return nil
}

// locked calls fn while no other weave changes sockets in this directory, so that none can put its socket there between
// the look at a file and its replacement. The lock is a file that only root can open, and that is removed afterwards.
func (s *unixSocket) locked(ctx context.Context, fn func() error) (err error) {
	f, err := lockFile(ctx, filepath.Join(filepath.Dir(s.path), ".weave.lock"))
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name()), f.Close()) }() // in this order: see lockFile
	return fn()
}

// lockFile makes and locks the file at path. The holder of the lock removes the file before it unlocks it, so a file
// that is no longer at its path is not the lock any more.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		err = lock(ctx, f)
		if err == nil {
			var ours, there os.FileInfo
			if ours, err = f.Stat(); err == nil {
				there, err = os.Lstat(path)
			}
			if err == nil && os.SameFile(ours, there) {
				return f, nil
			}
		}
		f.Close()
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
}

// makeDir makes the directory and those above it with this mode, whatever the umask. Directories that exist stay as
// they are.
func makeDir(dir string, mode os.FileMode) error {
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(dir), mode); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil {
		if errors.Is(err, os.ErrExist) { // another process has made it meanwhile
			return nil
		}
		return err
	}
	return os.Chmod(dir, mode)
}

// lock waits for the exclusive lock on f: another weave holds it only for a moment.
func lock(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, 2*dialTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}
