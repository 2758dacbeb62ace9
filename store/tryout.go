// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"go.etcd.io/bbolt"
)

// tryOut does to f, a copy of a state, all that weave does to a state, and more: it has bbolt check every page, reads
// every record, writes every record anew, and then checks all of it again. bbolt's check alone does not find
// everything. For example, it does not compare the keys in inner pages with those in the pages below, on which later
// writes rely.
//
// The error wraps ErrFuture if a newer weave wrote the state. With any other error, and if the process crashes, the
// state is damaged.
func tryOut(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	err = withBolt(f, true, func(db *bbolt.DB) error {
		return view(db, func(tx *bbolt.Tx) error {
			if tx.Size() > info.Size() {
				return damaged("cut short: %d bytes of %d", info.Size(), tx.Size())
			}
			return examine(tx)
		})
	})
	if err != nil {
		return err
	}
	// Not before: when bbolt opens a file for writing it reads the list of free pages, which may lie beyond the end.
	return withBolt(f, false, func(db *bbolt.DB) error {
		if err := db.Update(rewrite); err != nil {
			return err
		}
		return view(db, examine)
	})
}

// withBolt calls use with the bbolt database in f.
func withBolt(f *os.File, readOnly bool, use func(db *bbolt.DB) error) error {
	options := *bbolt.DefaultOptions
	options.ReadOnly = readOnly
	db, err := bbolt.Open(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), 0, &options)
	if err != nil {
		return damaged("%w", err)
	}
	if err := use(db); err != nil {
		return err // without Close, which may wait for a transaction that is still open
	}
	return db.Close()
}

// view calls use with a transaction that only reads. If that fails, the transaction stays open, because a goroutine of
// bbolt's check may still use it; it may even never end.
func view(db *bbolt.DB, use func(tx *bbolt.Tx) error) error {
	tx, err := db.Begin(false)
	if err != nil {
		return damaged("%w", err)
	}
	if err := use(tx); err != nil {
		return err
	}
	return tx.Rollback()
}

// examine checks everything that can be read with tx.
func examine(tx *bbolt.Tx) error {
	if err := <-tx.Check(); err != nil {
		return damaged("%w", err)
	}
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		return damaged("no bucket %q", metaBucket)
	}
	if err := checkVersion(meta.Get(versionKey)); err != nil {
		return err
	}
	records := tx.Bucket(recordsBucket)
	if records == nil {
		return damaged("no bucket %q", recordsBucket)
	}
	buckets := 0
	err := tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
		buckets++
		return nil
	})
	if err != nil {
		return damaged("%w", err)
	}
	if buckets != 2 {
		return damaged("%d buckets: want 2", buckets)
	}
	if err := checkRecords(records, meta.Get(digestKey)); err != nil {
		return err
	}
	for _, b := range []*bbolt.Bucket{meta, records} {
		if err := checkLayout(b); err != nil {
			return err
		}
	}
	return checkFreePages(tx)
}

// checkVersion checks the version of the state's content.
func checkVersion(b []byte) error {
	version, err := strconv.Atoi(string(b))
	switch {
	case err != nil || version < 1:
		return damaged("version %q", b)
	case version > boltVersion:
		return fmt.Errorf("%w: version %d of the state, known up to %d", ErrFuture, version, boltVersion)
	}
	return nil
}

// checkRecords checks that the records match their digest and stand in the order of their keys. bbolt checks the
// order, but not in a bucket so small that it has no page of its own.
func checkRecords(records *bbolt.Bucket, encoded []byte) error {
	sum, err := decodeDigest(encoded)
	if err != nil {
		return err
	}
	var last []byte
	err = records.ForEach(func(key, value []byte) error {
		switch {
		case value == nil:
			return damaged("record %q is a bucket", key)
		case bytes.Compare(last, key) >= 0:
			return damaged("record %q is out of order", key)
		}
		last, sum = key, sum.without(key, value)
		return nil
	})
	if err != nil {
		return err
	}
	if sum != 0 {
		return damaged("the records don't match their digest")
	}
	return nil
}

// checkLayout checks that each entry of b lies in its page, which bbolt does not check. An entry whose position is
// damaged may lead to a former copy of itself elsewhere, which is right until something else is written there.
//
// bbolt writes the entries of a page one after the other. So there are as many runs of adjacent entries as pages, and
// their size is what bbolt concludes from the position of the last entry of each page.
func checkLayout(b *bbolt.Bucket) error {
	const pageHead, entryHead = 16, 16 // bytes
	stats := b.Stats()
	pages := max(stats.LeafPageN, 1) // a small bucket is part of another's page
	runs, size, end := 0, pages*pageHead, uintptr(0)
	err := b.ForEach(func(key, value []byte) error {
		start := uintptr(unsafe.Pointer(unsafe.SliceData(key)))
		if start != end {
			runs++
		}
		end = start + uintptr(len(key)+len(value))
		size += entryHead + len(key) + len(value)
		return nil
	})
	if err != nil {
		return damaged("%w", err)
	}
	if max(runs, 1) != pages || size != stats.LeafInuse+stats.InlineBucketInuse {
		return damaged("an entry is not where bbolt wrote it")
	}
	return nil
}

// checkFreePages checks that the pages that bbolt lists as free are pages of the file, which bbolt does not check.
func checkFreePages(tx *bbolt.Tx) error {
	free := 0
	for id := 2; id < int(tx.Size())/tx.DB().Info().PageSize; id++ { // pages 0 and 1 are never free
		page, err := tx.Page(id)
		if err != nil {
			return damaged("%w", err)
		}
		if page.Type == "free" {
			free++
		}
	}
	stats := tx.DB().Stats()
	if listed := stats.FreePageN + stats.PendingPageN; listed != free {
		return damaged("%d pages are listed as free, %d of them are pages of the file", listed, free)
	}
	return nil
}

// rewrite puts every record anew. So each page in use is read, freed and written again.
func rewrite(tx *bbolt.Tx) error {
	var changes []Change
	err := tx.Bucket(recordsBucket).ForEach(func(key, value []byte) error {
		changes = append(changes, Change{Key: string(key), Value: bytes.Clone(value)})
		return nil
	})
	if err != nil {
		return err
	}
	return apply(tx, changes)
}
