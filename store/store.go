// Package store keeps weave's state: what must outlive the process. It knows keys and bytes, not what they mean.
//
// It makes no system call that depends on a network namespace.
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

// Errors that callers tell apart.
var (
	// ErrLocked: another process has the state open.
	ErrLocked = errors.New("state is in use by another process")
	// ErrDamaged: the state can't be read as what weave wrote.
	ErrDamaged = errors.New("state is damaged")
	// ErrFuture: the state was written by a newer version of weave.
	ErrFuture = errors.New("state was written by a newer version of weave")
)

// What a record may hold, in bytes.
const (
	MaxKey   = 1024
	MaxValue = 1 << 20
)

// Store is a small ordered key-value store. Its methods may be called from several goroutines at once.
type Store interface {
	// List returns the records whose keys begin with prefix, in the order of their keys.
	List(ctx context.Context, prefix string) ([]Record, error)
	// Apply makes all of the changes, in their order, or none of them. When it returns nil they outlast a crash of the
	// process and of the machine. When it returns an error nothing has changed, unless that is about the very last step:
	// then nobody knows what is on disk, and each further call is an error. A key that is empty, longer than MaxKey or
	// holds a NUL, and a value longer than MaxValue, are errors.
	Apply(ctx context.Context, changes ...Change) error
	// Close ends the use of the store; calls after it are errors.
	Close() error
}

// Record is one key with its value.
type Record struct {
	Key   string
	Value []byte
}

// Change sets a key's value, or removes the key.
type Change struct {
	Key   string
	Value []byte // nil: remove the key; a key that isn't there is no error
}

// Put is the Change that sets key to the JSON encoding of v.
func Put(key string, v any) (Change, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return Change{}, fmt.Errorf("encode record %s: %w", key, err)
	}
	return Change{Key: key, Value: b}, nil
}

// Delete is the Change that removes key.
func Delete(key string) Change { return Change{Key: key} }

// validate says what is wrong with c, whatever the store.
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

// Load decodes every record whose key begins with prefix. A value that is not the JSON of a T is ErrDamaged.
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

// identityKey holds the state's own id.
const identityKey = "identity"

// Identity returns the state's own id, 16 hexadecimal digits, which the kernel objects made on its behalf carry; it is
// made when the state is new and never changes.
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
