// SPDX-License-Identifier: Apache-2.0

// Package store keeps weave's state on disk, so that it outlasts the process. The state is a set of records, each a
// key and a value in bytes; what they mean is known to the packages that write them.
//
// It may run in any network namespace: no system call that it makes depends on it.
package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// The errors that a caller can distinguish with errors.Is.
var (
	// ErrLocked says that another process has the state open.
	ErrLocked = errors.New("state is in use by another process")
	// ErrDamaged says that the state is not what weave wrote.
	ErrDamaged = errors.New("state is damaged")
	// ErrFuture says that a newer version of weave wrote the state, which this one may misread.
	ErrFuture = errors.New("state was written by a newer version of weave")
)

// damaged returns an error that wraps ErrDamaged.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrDamaged, fmt.Errorf(format, args...))
}

// The longest key and the longest value of a record, in bytes.
const (
	MaxKey   = 1024
	MaxValue = 1 << 20
)

// Store is a small ordered key-value store. Several goroutines may use it at once.
type Store interface {
	// List returns the records whose keys begin with prefix, ordered by key.
	List(ctx context.Context, prefix string) ([]Record, error)
	// Apply makes all changes, in the given order, or none of them. When it returns nil, they outlast a crash of the
	// process and of the machine. When it returns an error, nothing has changed, with one exception: if the very last
	// step of writing fails, it is unknown what is on the disk, and every later call returns an error. It is an error
	// if a key is empty, contains a NUL or is longer than MaxKey, and if a value is longer than MaxValue.
	Apply(ctx context.Context, changes ...Change) error
	// Close closes the store. Every later call returns an error.
	Close() error
}

// Record is one key with its value.
type Record struct {
	Key   string
	Value []byte
}

// Change sets the value of a key or removes the key.
type Change struct {
	Key   string
	Value []byte // nil removes the key, which need not exist
}

// Put returns the Change that sets key to the JSON encoding of v.
func Put(key string, v any) (Change, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return Change{}, fmt.Errorf("encode record %s: %w", key, err)
	}
	return Change{Key: key, Value: b}, nil
}

// Delete returns the Change that removes key.
func Delete(key string) Change { return Change{Key: key} }

// validate returns an error if no store may make the change.
func (c Change) validate() error {
	switch {
	case c.Key == "":
		return errors.New("change a record: the key is empty")
	case len(c.Key) > MaxKey:
		return fmt.Errorf("change record %.32q...: the key has %d bytes: want at most %d", c.Key, len(c.Key), MaxKey)
	case strings.ContainsRune(c.Key, 0):
		return fmt.Errorf("change record %q: the key holds a NUL", c.Key)
	case len(c.Value) > MaxValue:
		return fmt.Errorf("change record %s: the value has %d bytes: want at most %d", c.Key, len(c.Value), MaxValue)
	}
	return nil
}

// Load returns the decoded values of the records whose keys begin with prefix, by key. The error wraps ErrDamaged if
// a value is not the JSON encoding of a T.
func Load[T any](ctx context.Context, s Store, prefix string) (map[string]T, error) {
	records, err := s.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	out := make(map[string]T, len(records))
	for _, r := range records {
		var v T
		if err := json.Unmarshal(r.Value, &v); err != nil {
			return nil, fmt.Errorf("record %s: %w: %w", r.Key, ErrDamaged, err)
		}
		out[r.Key] = v
	}
	return out, nil
}

// identityKey is the key of the state's id.
const identityKey = "identity"

// Identity returns the state's id, 16 hexadecimal digits. It is chosen at random for a new state and never changes.
// weave marks what it creates in the kernel with it, and so recognises later what belongs to this state.
func Identity(ctx context.Context, s Store) (string, error) {
	ids, err := Load[string](ctx, s, identityKey)
	if err != nil {
		return "", err
	}
	if id, ok := ids[identityKey]; ok {
		return id, nil
	}
	var raw [8]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fmt.Errorf("make the state's id: %w", err)
	}
	id := hex.EncodeToString(raw[:])
	put, err := Put(identityKey, id)
	if err != nil {
		return "", err
	}
	if err := s.Apply(ctx, put); err != nil {
		return "", fmt.Errorf("write the state's id: %w", err)
	}
	return id, nil
}
