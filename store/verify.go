package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strconv"
)

// bbolt trusts its file: a page that refers to itself overflows the stack, and one beyond the end of the file is a
// SIGBUS, neither of which can be recovered from in its goroutines; and it writes to a file while opening it. So the
// file is first read here as plain bytes, in bounds and each page at most once.
//
// The format (bbolt's internal/common) is in the byte order of the machine. A page begins with
//
//	id uint64, flags uint16, count uint16, overflow uint32
//
// where overflow is the number of pages that continue it. Pages 0 and 1 are the metas, one for even and one for odd
// transactions; the newer valid one holds.
const (
	pageHeader = 16
	elemSize   = 16 // of leaf and branch elements alike

	branchFlag   = 0x01
	leafFlag     = 0x02
	freelistFlag = 0x10
	bucketFlag   = 0x01 // of a leaf element: the value is a bucket

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSize    = 64

	minPageSize = 1 << 10
	maxPageSize = 1 << 24 // as far as bbolt looks for the second meta
	maxFileSize = 1 << 30
)

var order = binary.NativeEndian

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// verify reads f and returns nil when it is a state that this weave wrote and bbolt can be trusted with, ErrFuture when
// a newer weave wrote it, else ErrDamaged.
func verify(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return damaged("not a regular file")
	}
	if info.Size() > maxFileSize {
		return damaged("%d bytes are more than weave writes", info.Size())
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, info.Size()), data); err != nil {
		// An error of the disk is one too: the file can't be read as what weave wrote.
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return verifyBytes(data)
}

func verifyBytes(data []byte) error {
	im, root, freelist, err := newImage(data)
	if err != nil {
		return err
	}
	buckets := map[string][]byte{}
	err = im.tree(root, func(key, value []byte, isBucket bool) error {
		if !isBucket {
			return damaged("record %q outside of the buckets", key)
		}
		buckets[string(key)] = value
		return nil
	})
	if err != nil {
		return err
	}
	meta, err := im.bucket(buckets, metaBucket)
	if err != nil {
		return err
	}
	if err := checkVersion(meta[string(versionKey)]); err != nil {
		return err
	}
	if len(buckets) != 2 {
		return damaged("%d buckets: want 2", len(buckets))
	}
	records, err := im.bucket(buckets, recordsBucket)
	if err != nil {
		return err
	}
	if err := checkDigest(meta[string(digestKey)], records); err != nil {
		return err
	}
	return im.freelist(freelist)
}

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

func checkDigest(want []byte, records map[string][]byte) error {
	sum, err := decodeDigest(want)
	if err != nil {
		return err
	}
	for key, value := range records {
		sum = sum.without([]byte(key), value)
	}
	if sum != 0 {
		return damaged("the records don't match their digest")
	}
	return nil
}

// image is a bbolt file as bytes.
type image struct {
	data     []byte
	pageSize uint64
	seen     []bool // by page
}

// meta is what counts of a meta page.
type meta struct {
	pageSize             uint64
	root, freelist, high uint64 // pages; all in use lie below high
	txid                 uint64
}

// newImage finds the meta that holds, as bbolt does, and returns its root and freelist pages.
func newImage(data []byte) (im *image, root, freelist uint64, err error) {
	first, errFirst := readMeta(data, 0)
	second, errSecond := meta{}, errors.New("no second meta page")
	if errFirst == nil {
		second, errSecond = readMeta(data, first.pageSize)
	} else {
		for at := uint64(minPageSize); at <= maxPageSize && errSecond != nil; at *= 2 {
			second, errSecond = readMeta(data, at)
			if errSecond == nil && second.pageSize != at {
				return nil, 0, 0, damaged("meta page for pages of %d bytes at %d", second.pageSize, at)
			}
		}
	}
	m := first
	switch {
	case errFirst != nil && errSecond != nil:
		return nil, 0, 0, fmt.Errorf("%w: %w", ErrDamaged, errFirst)
	case errFirst == nil && errSecond == nil && first.pageSize != second.pageSize:
		return nil, 0, 0, damaged("pages of %d and of %d bytes", first.pageSize, second.pageSize)
	case errFirst != nil, errSecond == nil && second.txid > first.txid:
		m = second
	}
	if m.pageSize < minPageSize || m.pageSize > maxPageSize || m.pageSize&(m.pageSize-1) != 0 {
		return nil, 0, 0, damaged("pages of %d bytes", m.pageSize)
	}
	if pages := uint64(len(data)) / m.pageSize; m.high > pages {
		return nil, 0, 0, damaged("cut short: %d pages of %d", pages, m.high)
	}
	return &image{data: data, pageSize: m.pageSize, seen: make([]bool, m.high)}, m.root, m.freelist, nil
}

func readMeta(data []byte, at uint64) (meta, error) {
	if at+pageHeader+metaSize > uint64(len(data)) {
		return meta{}, fmt.Errorf("no meta page in %d bytes", len(data))
	}
	b := data[at+pageHeader:][:metaSize]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:56])
	switch {
	case order.Uint32(b) != metaMagic:
		return meta{}, errors.New("not a state file")
	case order.Uint32(b[4:]) != metaVersion:
		return meta{}, fmt.Errorf("bbolt format %d: want %d", order.Uint32(b[4:]), metaVersion)
	case order.Uint64(b[56:]) != sum.Sum64():
		return meta{}, errors.New("checksum of the meta page")
	}
	return meta{
		pageSize: uint64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]),
		freelist: order.Uint64(b[32:]),
		high:     order.Uint64(b[40:]),
		txid:     order.Uint64(b[48:]),
	}, nil
}

// page returns the page id with its continuation, and marks it as seen.
func (im *image) page(id uint64) ([]byte, error) {
	high := uint64(len(im.seen))
	if id < 2 || id >= high {
		return nil, damaged("page %d of %d", id, high)
	}
	page := im.data[id*im.pageSize:]
	if got := order.Uint64(page); got != id {
		return nil, damaged("page %d in the place of page %d", got, id)
	}
	end := id + 1 + uint64(order.Uint32(page[12:]))
	if end > high {
		return nil, damaged("page %d goes on to page %d of %d", id, end-1, high)
	}
	for i := id; i < end; i++ {
		if err := im.mark(i); err != nil {
			return nil, err
		}
	}
	return page[:(end-id)*im.pageSize], nil
}

func (im *image) mark(id uint64) error {
	if im.seen[id] {
		return damaged("page %d is used twice", id)
	}
	im.seen[id] = true
	return nil
}

// visit is called for each element of the leaves of a tree, in order.
type visit func(key, value []byte, isBucket bool) error

func (im *image) tree(root uint64, v visit) error { return im.subtree(root, nil, nil, v) }

// subtree walks the tree at page id, whose keys must be at least low and, unless high is nil, below high.
func (im *image) subtree(id uint64, low, high []byte, v visit) error {
	page, err := im.page(id)
	if err != nil {
		return err
	}
	if order.Uint16(page[8:]) != branchFlag {
		return leaf(page, low, high, v)
	}
	count := int(order.Uint16(page[10:]))
	if count == 0 {
		return damaged("page %d: a branch without children", id)
	}
	var keys [][]byte
	var children []uint64
	for i := range count {
		e, err := element(page, i)
		if err != nil {
			return err
		}
		key, err := e.bytes(order.Uint32(e.head), 0, order.Uint32(e.head[4:]))
		if err != nil {
			return err
		}
		if i > 0 && bytes.Compare(keys[i-1], key) >= 0 {
			return damaged("page %d: keys out of order", id)
		}
		keys, children = append(keys, key), append(children, order.Uint64(e.head[8:]))
	}
	if len(keys[0]) == 0 || bytes.Compare(keys[0], low) < 0 || high != nil && bytes.Compare(keys[count-1], high) >= 0 {
		return damaged("page %d: keys out of range", id)
	}
	for i, child := range children {
		end := high
		if i+1 < count {
			end = keys[i+1]
		}
		if err := im.subtree(child, keys[i], end, v); err != nil {
			return err
		}
	}
	return nil
}

// leaf visits the elements of a leaf page.
func leaf(page, low, high []byte, v visit) error {
	id := order.Uint64(page)
	if flags := order.Uint16(page[8:]); flags != leafFlag {
		return damaged("page %d: type %#x: want a leaf or a branch", id, flags)
	}
	for i := range int(order.Uint16(page[10:])) {
		e, err := element(page, i)
		if err != nil {
			return err
		}
		flags, pos, keySize := order.Uint32(e.head), order.Uint32(e.head[4:]), order.Uint32(e.head[8:])
		key, err := e.bytes(pos, 0, keySize)
		if err != nil {
			return err
		}
		value, err := e.bytes(pos, keySize, order.Uint32(e.head[12:]))
		if err != nil {
			return err
		}
		c := bytes.Compare(low, key)
		if len(key) == 0 || c > 0 || c == 0 && i > 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return damaged("page %d: keys out of order", id)
		}
		if flags&^bucketFlag != 0 {
			return damaged("page %d: element flags %#x", id, flags)
		}
		if err := v(key, value, flags == bucketFlag); err != nil {
			return err
		}
		low = key
	}
	return nil
}

// elem is an element of a page: its head, and what follows from the head's first byte on, which is where positions count
// from.
type elem struct{ head, from []byte }

func element(page []byte, i int) (elem, error) {
	at := pageHeader + i*elemSize
	if at+elemSize > len(page) {
		return elem{}, damaged("page %d: more elements than fit", order.Uint64(page))
	}
	return elem{head: page[at:][:elemSize], from: page[at:]}, nil
}

func (e elem) bytes(pos, skip, size uint32) ([]byte, error) {
	start := uint64(pos) + uint64(skip)
	if start+uint64(size) > uint64(len(e.from)) {
		return nil, damaged("an element reaches beyond its page")
	}
	return e.from[start:][:size:size], nil
}

// bucket returns the elements of the named bucket, which begins with the page of its root (uint64) and a sequence
// (uint64). A small one has root 0 and its only page right behind.
func (im *image) bucket(buckets map[string][]byte, name []byte) (map[string][]byte, error) {
	value, ok := buckets[string(name)]
	if !ok || len(value) < 16 {
		return nil, damaged("no bucket %q", name)
	}
	out := map[string][]byte{}
	collect := func(key, value []byte, isBucket bool) error {
		if isBucket {
			return damaged("bucket %q inside of bucket %q", key, name)
		}
		out[string(key)] = value
		return nil
	}
	if root := order.Uint64(value); root != 0 {
		return out, im.tree(root, collect)
	}
	page := value[16:]
	if len(page) < pageHeader {
		return nil, damaged("bucket %q is cut short", name)
	}
	return out, leaf(page, nil, nil, collect)
}

// freelist checks the list of free pages: ids (uint64) of pages that no tree uses. Where count isn't enough, the first of
// the ids is the number of those that follow.
func (im *image) freelist(id uint64) error {
	page, err := im.page(id)
	if err != nil {
		return err
	}
	if flags := order.Uint16(page[8:]); flags != freelistFlag {
		return damaged("page %d: type %#x: want a freelist", id, flags)
	}
	count, ids := uint64(order.Uint16(page[10:])), page[pageHeader:]
	if count == 0xFFFF {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids))/8 {
		return damaged("page %d: more free pages than fit", id)
	}
	for i := range count {
		free := order.Uint64(ids[i*8:])
		if free < 2 || free >= uint64(len(im.seen)) {
			return damaged("free page %d of %d", free, len(im.seen))
		}
		if err := im.mark(free); err != nil {
			return err
		}
	}
	return nil
}
