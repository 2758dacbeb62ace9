// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"strconv"
)

// digest is a sum over all records that does not depend on their order. It is kept beside the records because bbolt's
// pages carry no checksum: it shows that a record was altered or lost, or that a removed one is back.
type digest uint64

var crcTable = crc64.MakeTable(crc64.ECMA)

func (d digest) with(key, value []byte) digest    { return d + recordSum(key, value) }
func (d digest) without(key, value []byte) digest { return d - recordSum(key, value) }

func recordSum(key, value []byte) digest {
	// With the key's length in it, the sum changes when the border between key and value moves.
	sum := crc64.Update(0, crcTable, binary.LittleEndian.AppendUint64(nil, uint64(len(key))))
	sum = crc64.Update(sum, crcTable, key)
	return digest(crc64.Update(sum, crcTable, value))
}

// encode returns d as 16 hexadecimal digits.
func (d digest) encode() []byte { return fmt.Appendf(nil, "%016x", uint64(d)) }

// decodeDigest returns the digest that encode wrote. The error wraps ErrDamaged.
func decodeDigest(b []byte) (digest, error) {
	d, err := strconv.ParseUint(string(b), 16, 64)
	if err != nil {
		return 0, damaged("digest of the records: %w", err)
	}
	return digest(d), nil
}
