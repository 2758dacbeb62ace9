// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/semaphore"
)

// boltVersion is the version of the file's content. It must be raised when an older weave would misread the content.
const boltVersion = 1

// The buckets of the file, and the keys of the bucket meta.
var (
	metaBucket    = []byte("meta")
	recordsBucket = []byte("records")
	versionKey    = []byte("version") // decimal
	digestKey     = []byte("digest")  // of the records, as digest.encode writes it
)

// Bolt is a Store in one bbolt file.
type Bolt struct {
	db     *bbolt.DB
	path   string
	writer *semaphore.Weighted // held while a change is written
	failed error               // if not nil, nothing more is written, for this reason; guarded by writer
}

var _ Store = (*Bolt)(nil)

// List implements Store.
func (b *Bolt) List(ctx context.Context, prefix string) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	var out []Record
	err := b.view(func(tx *bbolt.Tx) {
		c := tx.Bucket(recordsBucket).Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			out = append(out, Record{Key: string(k), Value: bytes.Clone(v)})
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read state %s: %w", b.path, err)
	}
	return out, nil
}

// view calls read with a transaction that only reads.
func (b *Bolt) view(read func(tx *bbolt.Tx)) error {
	return guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			read(tx)
			return nil
		})
	})
}

// Apply implements Store. Each call is one transaction, which is synced to disk.
func (b *Bolt) Apply(ctx context.Context, changes ...Change) error {
	for _, c := range changes {
		if err := c.validate(); err != nil {
			return err
		}
	}
	if err := b.writer.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	defer b.writer.Release(1)
	if b.failed != nil {
		return b.failed
	}
	var before int // the last transaction in the file
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
	if after, readErr := b.lastTransaction(); before != 0 && (readErr != nil || after != before) {
		// The very last step failed: bbolt reads the change back, but it may not be on the disk.
		b.failed = fmt.Errorf("%w: nothing is written any more until weave is started again", err)
		return b.failed
	}
	return err
}

// lastTransaction returns the number of the last transaction that can be read.
func (b *Bolt) lastTransaction() (id int, err error) {
	err = b.view(func(tx *bbolt.Tx) { id = tx.ID() })
	return id, err
}

// apply makes changes to the records and brings the digest up to date.
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

// guard calls f and turns a panic into ErrDamaged. bbolt reads its file through a memory map and panics when a page
// is not what it expects; the read itself faults when the disk fails or the file has been cut short.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = damaged("%v", r)
		}
	}()
	return f()
}
