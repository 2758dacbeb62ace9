package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"strconv"
)

// digest is a sum over all records, whatever their order, that is kept beside them. bbolt's pages carry no checksum: the
// digest shows that a record was altered, lost, or came back.
type digest uint64

var crcTable = crc64.MakeTable(crc64.ECMA)

func (d digest) with(key, value []byte) digest    { return d + recordSum(key, value) }
func (d digest) without(key, value []byte) digest { return d - recordSum(key, value) }

func recordSum(key, value []byte) digest {
	// The length keeps a byte that wanders from the key to the value from going unseen.
	sum := crc64.Update(0, crcTable, binary.LittleEndian.AppendUint64(nil, uint64(len(key))))
	sum = crc64.Update(sum, crcTable, key)
	return digest(crc64.Update(sum, crcTable, value))
}

func (d digest) encode() []byte { return fmt.Appendf(nil, "%016x", uint64(d)) }

func decodeDigest(b []byte) (digest, error) {
	d, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil {
		return 0, fmt.Errorf("digest of the records: %w: %w", ErrDamaged, err)
	}
	return digest(d), nil
}
