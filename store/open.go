// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/wait"
)

// lockTimeout is how long OpenBolt waits for another process to release the file, and lockInterval how often it
// tries.
const (
	lockTimeout  = time.Second
	lockInterval = 50 * time.Millisecond
)

// OpenBolt opens the state in the file path. If there is no such file, it creates it with mode 0600, and its
// directory with mode 0700.
//
// The error wraps ErrLocked if another process has held the file for a second, ErrFuture if a newer version of weave
// wrote it, and ErrDamaged if it is not what weave wrote. A file that is refused is left byte for byte as it was. An
// empty file is damaged too, because a new file gets its name only once it is complete.
//
// The file is checked in a child process, for which this program executes itself. A file that OpenBolt has just
// created needs no check.
func OpenBolt(ctx context.Context, path string) (*Bolt, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the state: %w", err)
	}
	created := false
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if created, err = createBolt(ctx, path); err != nil {
			return nil, fmt.Errorf("make state %s: %w", path, err)
		}
	}
	f, err := openLocked(ctx, path, 0)
	if err != nil {
		return nil, err
	}
	if !created {
		if err := check(ctx, f); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("open state %s: %w", path, advised(err))
		}
	}
	return newBolt(f, path)
}

// advised adds to err what the user can do about it.
func advised(err error) error {
	switch {
	case errors.Is(err, ErrLocked):
		return fmt.Errorf("%w: stop the other weave first", err)
	case errors.Is(err, ErrFuture):
		return fmt.Errorf("%w: install that version of weave again", err)
	case errors.Is(err, ErrDamaged):
		return fmt.Errorf("%w: move the file away and start weave again: "+
			"it then takes up from Docker what was in it", err)
	}
	return err
}

// createBolt creates an empty state if no other process has done so meanwhile. The file gets its name when it is
// complete, so that a crash leaves no half-written state.
func createBolt(ctx context.Context, path string) (created bool, err error) {
	temp := path + ".new"
	f, err := openLocked(ctx, temp, os.O_CREATE)
	if err != nil {
		return false, err
	}
	// Another process may have created the state while this one waited for the lock.
	if _, err := os.Stat(path); err == nil {
		_ = os.Remove(temp)
		return false, f.Close()
	}
	if err := f.Truncate(0); err != nil {
		return false, errors.Join(err, f.Close())
	}
	b, err := newBolt(f, temp)
	if err != nil {
		return false, err
	}
	err = b.initialise()
	if err == nil {
		err = rename(temp, path)
	}
	err = errors.Join(err, b.Close())
	return err == nil, err
}

// initialise writes an empty state.
func (b *Bolt) initialise() error {
	return guard(func() error {
		return b.db.Update(func(tx *bbolt.Tx) error {
			if _, err := tx.CreateBucket(recordsBucket); err != nil {
				return err
			}
			meta, err := tx.CreateBucket(metaBucket)
			if err != nil {
				return err
			}
			if err := meta.Put(versionKey, []byte(strconv.Itoa(boltVersion))); err != nil {
				return err
			}
			return meta.Put(digestKey, digest(0).encode())
		})
	})
}

// rename renames a file within its directory and syncs the directory, so that the new name outlasts a power failure.
func rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// openLocked opens the file path for reading and writing and locks it, so that one process at a time can hold it.
func openLocked(ctx context.Context, path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	if err := lock(ctx, f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock state %s: %w", path, advised(err))
	}
	return f, nil
}

// lock locks f. It tries for lockTimeout, and returns ErrLocked if another process holds the file all that time.
func lock(ctx context.Context, f *os.File) error {
	trying, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if !wait.For(trying, lockInterval) {
			if err := ctx.Err(); err != nil {
				return err
			}
			return ErrLocked
		}
	}
}

// newBolt has bbolt open f, a locked file that has been checked or is empty. bbolt owns f from then on, so the file
// that was checked is the one that is used. Locking it once more, as bbolt does, has no effect.
func newBolt(f *os.File, path string) (*Bolt, error) {
	options := *bbolt.DefaultOptions
	options.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return f, nil }
	b := &Bolt{path: path, writer: semaphore.NewWeighted(1)}
	err := guard(func() (err error) {
		b.db, err = bbolt.Open(path, 0o600, &options)
		return err
	})
	if err != nil {
		_ = f.Close() // bbolt may have closed it already
		return nil, fmt.Errorf("open state %s: %w", path, advised(err))
	}
	return b, nil
}
