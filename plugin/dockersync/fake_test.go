// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
)

// fakeDocker answers like Docker's API on a Unix socket. Its answers are set by path, without the API version.
type fakeDocker struct {
	t      *testing.T
	socket string
	server *httptest.Server

	mu      sync.Mutex
	version string            // in the header of a ping
	answers map[string]string // JSON by path; what has none is not found
	hangs   map[string]bool   // paths that are never answered
	paths   []string          // of the requests, with the API version
	streams map[chan string]bool
}

func newFakeDocker(t *testing.T) *fakeDocker {
	d := &fakeDocker{
		t:       t,
		socket:  filepath.Join(t.TempDir(), "docker.sock"),
		version: "1.41",
		answers: map[string]string{"/networks": "[]", "/containers/json": "[]", "/plugins": "[]", "/info": "{}"},
		hangs:   map[string]bool{},
		streams: map[chan string]bool{},
	}
	t.Cleanup(d.stop)
	return d
}

// start makes it answer.
func (d *fakeDocker) start() {
	d.t.Helper()
	if err := os.Remove(d.socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		d.t.Fatal(err)
	}
	d.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: d}}
	d.server.Start()
}

// stop makes it disappear, also in the middle of an answer.
func (d *fakeDocker) stop() {
	if d.server != nil {
		d.server.CloseClientConnections()
		d.server.Close()
		d.server = nil
	}
}

func (d *fakeDocker) set(path, answer string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers[path] = answer
}

func (d *fakeDocker) hang(path string, yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hangs[path] = yes
}

// count returns how often path was requested.
func (d *fakeDocker) count(path string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, a := range d.paths {
		if strings.HasSuffix(a, path) {
			n++
		}
	}
	return n
}

// say sends text as events to all that listen.
func (d *fakeDocker) say(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.streams {
		s <- text
	}
}

// event sends one event.
func (d *fakeDocker) event() {
	d.say(`{"Type":"container","Action":"rename","Actor":{"ID":"c1"}}` + "\n")
}

func (d *fakeDocker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/v1."); ok {
		path = rest[strings.Index(rest, "/"):]
	}
	d.mu.Lock()
	d.paths = append(d.paths, r.URL.Path)
	answer, found := d.answers[path]
	hang, version := d.hangs[path], d.version
	d.mu.Unlock()
	switch {
	case hang:
		<-r.Context().Done()
	case path == "/_ping":
		w.Header().Set("Api-Version", version)
	case path == "/events":
		d.stream(w, r)
	case found:
		fmt.Fprint(w, answer)
	default:
		http.NotFound(w, r)
	}
}

func (d *fakeDocker) stream(w http.ResponseWriter, r *http.Request) {
	lines := make(chan string, 1000)
	d.mu.Lock()
	d.streams[lines] = true
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.streams, lines)
		d.mu.Unlock()
	}()
	for {
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case text := <-lines:
			fmt.Fprint(w, text)
		}
	}
}

// newWatcher returns a Watcher of d with short times, and what it logs.
func newWatcher(d *fakeDocker) (*Watcher, *logrustest.Hook) {
	log, hook := logrustest.NewNullLogger()
	w := NewWatcher(WatcherOptions{
		Socket: d.socket, Drivers: []string{"weave", "registry.example/weave:1"}, Log: logrus.NewEntry(log),
	})
	w.timing = watchTiming{
		spacing: time.Millisecond, most: time.Millisecond, lag: time.Hour, resync: time.Hour,
		retry: time.Millisecond, maxRetry: 20 * time.Millisecond,
	}
	return w, hook
}

// run runs w until the test ends.
func run(t *testing.T, w *Watcher) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); w.Run(t.Context()) }() // the context ends before the clean-ups
	t.Cleanup(func() { <-done })
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
