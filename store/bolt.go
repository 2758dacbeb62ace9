package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// boltVersion is the version of what Bolt writes. A version is raised when an older weave would misread the state.
const boltVersion = 1

// The buckets of the file, and the keys of the first.
var (
	metaBucket    = []byte("meta")
	recordsBucket = []byte("records")
	versionKey    = []byte("version") // decimal
	digestKey     = []byte("digest")  // see digest, hexadecimal
)

const lockTimeout = time.Second

// Bolt is the Store of one machine: a bbolt file.
type Bolt struct {
	db     *bbolt.DB
	path   string
	writer chan struct{} // holds a token while a change is written
	failed error         // why nothing is written any more; guarded by writer
}

var _ Store = (*Bolt)(nil)

// OpenBolt opens the state in the file path, which it makes (0600, its directory 0700) when it isn't there.
//
// A file that another process holds is ErrLocked (after a second), one of a newer weave ErrFuture, and one that isn't
// in every byte that counts what weave wrote is ErrDamaged; an empty file is damaged too, since a new file gets its
// name only when it is complete. In these cases nothing on disk is touched.
func OpenBolt(path string) (*Bolt, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the state: %w", err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := createBolt(path); err != nil {
			return nil, fmt.Errorf("make state %s: %w", path, err)
		}
	}
	f, err := openLocked(path, 0)
	if err != nil {
		return nil, err
	}
	if err := verify(f); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open state %s: %w: %s", path, err, advice(err))
	}
	return newBolt(f, path)
}

// advice tells the user what to do about err.
func advice(err error) string {
	switch {
	case errors.Is(err, ErrLocked):
		return "stop the other weave first"
	case errors.Is(err, ErrFuture):
		return "install that version of weave again"
	case errors.Is(err, ErrDamaged):
		return "move the file away and start weave again: it then takes up from Docker what was in it"
	}
	return "see that weave may read and write the file"
}

// createBolt makes an empty state. It gets its name when it is complete, so that a crash leaves no half-made state.
func createBolt(path string) error {
	temp := path + ".new"
	f, err := openLocked(temp, os.O_CREATE)
	if err != nil {
		return err
	}
	// Another process may have made the state in the meantime: under this very name, or before this one made it anew.
	if _, err := os.Stat(path); err == nil {
		_ = os.Remove(temp)
		return f.Close()
	}
	if err := f.Truncate(0); err != nil {
		return errors.Join(err, f.Close())
	}
	b, err := newBolt(f, temp)
	if err != nil {
		return err
	}
	err = b.initialise()
	if err == nil {
		err = b.rename(path)
	}
	return errors.Join(err, b.Close())
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

// rename gives the file its name, durably.
func (b *Bolt) rename(path string) error {
	if err := os.Rename(b.path, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// openLocked opens path, and locks it against every other process that opens it so.
func openLocked(path string, flag int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	for deadline := time.Now().Add(lockTimeout); ; time.Sleep(lockTimeout / 20) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EWOULDBLOCK) && time.Now().Before(deadline) {
			continue
		}
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock state %s: %w: %s", path, err, advice(err))
	}
}

// newBolt hands the open, locked and verified file f to bbolt, which owns it from here on. bbolt takes the lock that f
// has already, and so the file that was verified is the one that is used.
func newBolt(f *os.File, path string) (*Bolt, error) {
	options := *bbolt.DefaultOptions
	options.OpenFile = func(string, int, os.FileMode) (*os.File, error) { return f, nil }
	b := &Bolt{path: path, writer: make(chan struct{}, 1)}
	err := guard(func() (err error) {
		b.db, err = bbolt.Open(path, 0o600, &options)
		return err
	})
	if err != nil {
		_ = f.Close() // bbolt may have closed it
		return nil, fmt.Errorf("open state %s: %w: %s", path, err, advice(err))
	}
	return b, nil
}

// List implements Store.
func (b *Bolt) List(ctx context.Context, prefix string) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	var out []Record
	err := b.view(func(records *bbolt.Bucket) {
		c := records.Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			out = append(out, Record{Key: string(k), Value: bytes.Clone(v)})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read state %s: %w", b.path, err)
	}
	return out, nil
}

func (b *Bolt) view(read func(records *bbolt.Bucket)) error {
	return guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			read(tx.Bucket(recordsBucket))
			return nil
		})
	})
}

// Apply implements Store. Each call is one transaction, synced to disk.
func (b *Bolt) Apply(ctx context.Context, changes ...Change) error {
	for _, c := range changes {
		if err := c.validate(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	select {
	case b.writer <- struct{}{}:
		defer func() { <-b.writer }()
	case <-ctx.Done():
		return fmt.Errorf("write state: wait for another change: %w", ctx.Err())
	}
	if b.failed != nil {
		return b.failed
	}
	var before int // the last transaction that is in the file
	err := guard(func() error {
		return b.db.Update(func(tx *bbolt.Tx) error {
			before = tx.ID() - 1
			return apply(tx, changes)
		})
	})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("write state %s: %w", b.path, err)
	if after, readErr := b.last(); before != 0 && (readErr != nil || after != before) {
		// The very last step failed: bbolt shows the change, and nobody knows whether the disk has it.
		b.failed = fmt.Errorf("%w: nothing is written any more until weave is started again", err)
		return b.failed
	}
	return err
}

// last returns the last transaction that can be read.
func (b *Bolt) last() (id int, err error) {
	err = guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			id = tx.ID()
			return nil
		})
	})
	return id, err
}

func apply(tx *bbolt.Tx, changes []Change) error {
	meta, records := tx.Bucket(metaBucket), tx.Bucket(recordsBucket)
	sum, err := decodeDigest(meta.Get(digestKey))
	if err != nil {
		return err
	}
	for _, c := range changes {
		key := []byte(c.Key)
		if old := records.Get(key); old != nil {
			sum = sum.without(key, old)
		}
		if c.Value == nil {
			if err := records.Delete(key); err != nil {
				return fmt.Errorf("remove record %s: %w", c.Key, err)
			}
			continue
		}
		if err := records.Put(key, c.Value); err != nil {
			return fmt.Errorf("put record %s: %w", c.Key, err)
		}
		sum = sum.with(key, c.Value)
	}
	return meta.Put(digestKey, sum.encode())
}

// Close implements Store. It waits for calls in progress.
func (b *Bolt) Close() error {
	if err := b.db.Close(); err != nil {
		return fmt.Errorf("close state %s: %w", b.path, err)
	}
	return nil
}

// guard turns a panic of bbolt into ErrDamaged: it panics where a page, read through a memory map, isn't what it
// expects, and the read itself faults where the disk fails or the file has been cut short.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return f()
}
