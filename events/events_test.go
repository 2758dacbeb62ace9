// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
)

// add adds events with the numbers from first to last as their texts.
func add(l *Log, first, last int) {
	for i := first; i <= last; i++ {
		l.Add(api.Event{Type: api.NetworkEvent, Text: fmt.Sprint(i)})
	}
}

// texts returns the texts of what a reader reads until there is nothing more: "lost: " and the text for a LostEvent.
func texts(t *testing.T, r *Reader) (read []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for {
		e, err := r.Next(ctx)
		if err != nil {
			return read
		}
		text := e.Text
		if e.Type == api.LostEvent {
			text = "lost: " + text
		}
		read = append(read, text)
	}
}

func cursors(t *testing.T, l *Log) (all []string) {
	t.Helper()
	r := l.Since(time.Time{})
	for {
		e, changed, err := r.take()
		if changed != nil || err != nil {
			return all
		}
		all = append(all, e.Cursor)
	}
}

func TestAfter(t *testing.T) {
	const overrun = "lost: weave keeps 4096 events: "
	l := New()
	add(l, 1, 3)
	first := cursors(t, l)
	ofOtherRun := "lost: the cursor is of another run of weave: what has happened between the runs is lost"
	for _, tt := range []struct {
		name, cursor string
		want         []string
	}{
		{"the first", first[0], []string{"2", "3"}},
		{"the last", first[2], nil},
		{"before the first", strings.TrimSuffix(first[0], "1") + "0", []string{"1", "2", "3"}},
		{"one that is not there yet", strings.TrimSuffix(first[2], "3") + "4", []string{ofOtherRun, "1", "2", "3"}},
		{"of another run", cursors(t, withEvents(5))[0], []string{ofOtherRun, "1", "2", "3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := l.After(tt.cursor)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, texts(t, r)); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}

	add(l, 4, kept+2) // the first two are overwritten
	for _, tt := range []struct {
		cursor      string
		first, lost string
	}{
		{first[0], overrun + "1 are lost", "3"},
		{first[1], "3", "4"},
	} {
		r, err := l.After(tt.cursor)
		if err != nil {
			t.Fatal(err)
		}
		if got := texts(t, r); got[0] != tt.first || got[1] != tt.lost {
			t.Errorf("after %s: %q", tt.cursor, got[:2])
		}
	}
}

func withEvents(n int) *Log {
	l := New()
	add(l, 1, n)
	return l
}

func TestAfterRefuses(t *testing.T) {
	l := New()
	for _, cursor := range []string{
		"", "1", "-1", l.run, l.run + "-", l.run + "-x", l.run + "--1", l.run + "-1 ", l.run + "-99999999999999999999",
		"x" + l.run + "-1", strings.ToUpper("abcdefabcdefabcd") + "-1",
	} {
		if _, err := l.After(cursor); !errors.Is(err, ErrCursor) {
			t.Errorf("cursor %q: %v, want ErrCursor", cursor, err)
		}
	}
}

// TestSlowReader: a reader that was overtaken is told how much it has missed, goes on with what is there, and can
// resume from the event that told it.
func TestSlowReader(t *testing.T) {
	l := New()
	r := l.NewReader()
	add(l, 1, kept+10)
	e, err := r.Next(t.Context())
	if err != nil || e.Type != api.LostEvent || !strings.Contains(e.Text, "10 are lost") {
		t.Fatalf("%+v, %v; want that 10 are lost", e, err)
	}
	again, err := l.After(e.Cursor)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*Reader{"goes on": r, "resumes": again} {
		if e, err := r.Next(t.Context()); err != nil || e.Text != "11" {
			t.Errorf("%s: %+v, %v; want the oldest that is kept", name, e, err)
		}
	}
}

func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		add(l, 1, 1)
		time.Sleep(time.Minute)
		between := time.Now()
		time.Sleep(time.Minute)
		add(l, 2, 2)
		if diff := cmp.Diff([]string{"2"}, texts(t, l.Since(between))); diff != "" {
			t.Errorf("since then (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"1", "2"}, texts(t, l.Since(time.Time{}))); diff != "" {
			t.Errorf("since ever (-want +got):\n%s", diff)
		}
		if got := texts(t, l.Since(time.Now().Add(time.Minute))); got != nil {
			t.Errorf("since a time to come: %q", got)
		}
		add(l, 3, kept+1)
		if got := texts(t, l.Since(between)); !strings.HasPrefix(got[0], "lost: ") || got[1] != "2" {
			t.Errorf("since a time from which some are lost: %q", got[:2])
		}
	})
}

// TestNextWaits: readers wait for what is added, and are told of the end when they have read all.
func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		got := make(chan string, 2)
		for range 2 {
			r := l.NewReader()
			go func() {
				var all []string
				for {
					e, err := r.Next(t.Context())
					if err != nil {
						all = append(all, err.Error())
						break
					}
					all = append(all, e.Text)
				}
				got <- strings.Join(all, ", ")
			}()
		}
		synctest.Wait()
		add(l, 1, 2)
		synctest.Wait()
		l.Close()
		l.Close()
		add(l, 3, 3)
		for range 2 {
			if text := <-got; text != "1, 2, "+ErrClosed.Error() {
				t.Errorf("read %q", text)
			}
		}
	})
}
