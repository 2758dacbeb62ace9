// SPDX-License-Identifier: Apache-2.0

// Package events keeps the last things that have happened on this host, for whoever wants to read them, as late and as
// slowly as they like. Nobody who writes ever waits for a reader.
//
// It works in any network namespace.
package events

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weaveplugin/weave/api"
)

// kept is how many events are kept.
const kept = 4096

var (
	// ErrCursor means that a text is no cursor.
	ErrCursor = errors.New("want the cursor of an event: 16 characters 0-9 and a-f, a hyphen and a number")
	// ErrClosed means that there will be no more events.
	ErrClosed = errors.New("no more events")
)

// Log is a ring of events. Several goroutines may use it.
type Log struct {
	run string // random, so that a cursor of another run is recognised

	mu      sync.Mutex
	ring    [kept]api.Event
	next    uint64        // number of the next event; the first one is 1
	changed chan struct{} // closed when an event is added, or at the end
	closed  bool
}

// New returns an empty Log.
func New() *Log {
	var run [8]byte
	rand.Read(run[:]) // never fails, by its documentation
	return &Log{run: hex.EncodeToString(run[:]), next: 1, changed: make(chan struct{})}
}

// Add adds an event, which gets its cursor and, if it has none, its time.
func (l *Log) Add(e api.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Cursor = l.cursor(l.next)
	l.ring[l.next%kept] = e
	l.next++
	close(l.changed)
	l.changed = make(chan struct{})
}

// Close has readers find the end when they have read what there is.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed = true
		close(l.changed)
	}
}

func (l *Log) cursor(number uint64) string { return fmt.Sprintf("%s-%d", l.run, number) }

// oldest returns the number of the oldest event that is kept. The caller holds the lock.
func (l *Log) oldest() uint64 {
	if l.next <= kept {
		return 1
	}
	return l.next - kept
}

// Reader reads a Log. It is only a place in it, so one that is slow costs nothing and holds nobody up: it is told of
// what it has missed. One goroutine may use it.
type Reader struct {
	log  *Log
	next uint64 // number of the event that is read next
	lost string // why events before that one can't be read; empty: none are missing
}

// NewReader returns a Reader of the events from now on.
func (l *Log) NewReader() *Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Reader{log: l, next: l.next}
}

// Since returns a Reader of the events from a time on.
func (l *Log) Since(t time.Time) *Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &Reader{log: l, next: l.oldest()}
	if r.next > 1 && !l.ring[r.next%kept].Time.Before(t) {
		r.lost = fmt.Sprintf("weave keeps %d events: earlier ones are lost", kept)
	}
	for r.next < l.next && l.ring[r.next%kept].Time.Before(t) {
		r.next++
	}
	return r
}

// cursorForm is the form of a cursor.
var cursorForm = regexp.MustCompile(`^[0-9a-f]{16}-[0-9]{1,19}$`)

// After returns a Reader of the events after the one with this cursor. If that is of another run, or if events after it
// are not kept any more, it reads a LostEvent first, and then all that are kept. The error is ErrCursor.
func (l *Log) After(cursor string) (*Reader, error) {
	if !cursorForm.MatchString(cursor) {
		return nil, ErrCursor
	}
	run, text, _ := strings.Cut(cursor, "-")
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil, ErrCursor
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if run != l.run || number >= l.next {
		return &Reader{
			log: l, next: l.oldest(),
			lost: "the cursor is of another run of weave: what has happened between the runs is lost",
		}, nil
	}
	return &Reader{log: l, next: number + 1}, nil // when it is not kept any more, Next finds that out
}

// Next waits for the next event. What the Reader has missed is a LostEvent. It returns ErrClosed after the last event
// of a Log that is closed, and the context's error when that ends.
func (r *Reader) Next(ctx context.Context) (api.Event, error) {
	for {
		e, changed, err := r.take()
		if changed == nil {
			return e, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return api.Event{}, ctx.Err()
		}
	}
}

// take returns the next event if it is there; otherwise a channel that is closed when it may be.
func (r *Reader) take() (e api.Event, changed <-chan struct{}, err error) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if oldest := l.oldest(); r.next < oldest {
		r.lost = fmt.Sprintf("weave keeps %d events: %d are lost", kept, oldest-r.next)
		r.next = oldest
	}
	switch {
	case r.lost != "":
		e = api.Event{
			Cursor: l.cursor(r.next - 1), Time: time.Now(), Type: api.LostEvent, Action: api.ActionMissed, Text: r.lost,
		}
		r.lost = ""
		return e, nil, nil
	case r.next < l.next:
		e = l.ring[r.next%kept]
		r.next++
		return e, nil, nil
	case l.closed:
		return e, nil, ErrClosed
	}
	return e, l.changed, nil
}
