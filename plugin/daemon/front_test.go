// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logrustest "github.com/sirupsen/logrus/hooks/test"
)

// fronts are what answers on the two kinds of sockets, each with the form of its errors.
var fronts = []struct {
	name        string
	front       func(*gate, *logrus.Entry) http.Handler
	request     *http.Request
	contentType string
	message     func(text string) any // the error object
	notReady    int                   // the status while there is no core
}{
	{
		name: "Docker",
		front: func(g *gate, log *logrus.Entry) http.Handler {
			return front{g, testProgram(nil).Docker, func(c *Core) http.Handler { return c.Docker }, log}
		},
		request:     httptest.NewRequest(http.MethodPost, "/NetworkDriver.Leave", strings.NewReader("{}")),
		contentType: "application/vnd.docker.plugins.v1.1+json",
		message:     func(text string) any { return map[string]any{"Err": text, "Error": text} },
		notReady:    http.StatusInternalServerError,
	},
	{
		name: "API",
		front: func(g *gate, log *logrus.Entry) http.Handler {
			return front{g, testProgram(nil).API, func(c *Core) http.Handler { return c.API }, log}
		},
		request:     httptest.NewRequest(http.MethodGet, "/v1/networks", nil),
		contentType: "application/json",
		message:     func(text string) any { return map[string]any{"error": text} },
		notReady:    http.StatusServiceUnavailable,
	},
}

func serveRecorded(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// checkError fails t unless w has this status and the error object of the socket, with text.
func checkError(t *testing.T, w *httptest.ResponseRecorder, status int, contentType string, want any) {
	t.Helper()
	if w.Code != status || w.Header().Get("Content-Type") != contentType {
		t.Errorf("status %d, %s; want %d, %s", w.Code, w.Header().Get("Content-Type"), status, contentType)
	}
	var got any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("answer %q: %v", w.Body, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

// TestPanicIsAnswered: a panic is answered with the socket's own error object and logged with its place, and the next
// request is served.
func TestPanicIsAnswered(t *testing.T) {
	for _, tt := range fronts {
		t.Run(tt.name, func(t *testing.T) {
			log, hook := logrustest.NewNullLogger()
			g, broken := newGate(), true
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if broken {
					panicHere()
				}
			})
			g.open(&Core{Docker: handler, API: handler})
			h := tt.front(g, logrus.NewEntry(log))
			w := serveRecorded(h, tt.request)
			path := tt.request.URL.Path
			checkError(t, w, http.StatusInternalServerError, tt.contentType,
				tt.message(path+": a defect in weave: index out of range; please report it with weave's log"))
			last := hook.LastEntry()
			stack, _ := last.Data["stack"].(string)
			if last.Level != logrus.ErrorLevel || !strings.Contains(stack, "panicHere") {
				t.Errorf("logged %v %v", last.Level, last.Data)
			}
			broken = false
			if w := serveRecorded(h, tt.request); w.Code != http.StatusOK {
				t.Errorf("the next request: status %d: %s", w.Code, w.Body)
			}
		})
	}
}

func panicHere() { panic("index out of range") }

func TestRequestWaitsForTheCore(t *testing.T) {
	for _, tt := range fronts {
		synctest.Test(t, func(t *testing.T) {
			g, called := newGate(), 0
			handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ })
			done := make(chan *httptest.ResponseRecorder)
			go func() { done <- serveRecorded(tt.front(g, quiet()), tt.request) }()
			synctest.Wait()
			if called != 0 {
				t.Errorf("%s: called before the core was there", tt.name)
			}
			g.open(&Core{Docker: handler, API: handler})
			if w := <-done; w.Code != http.StatusOK || called != 1 {
				t.Errorf("%s: status %d, %d calls", tt.name, w.Code, called)
			}
		})
	}
}

// TestRequestIsRefusedWithoutACore: where the start is not finished in time, or has failed, the socket's own error
// object says so.
func TestRequestIsRefusedWithoutACore(t *testing.T) {
	for _, tt := range fronts {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := serveRecorded(tt.front(newGate(), quiet()), tt.request)
				checkError(t, w, tt.notReady, tt.contentType, tt.message(errStarting.Error()))
			})
			g := newGate()
			g.fail(errors.New("state is damaged"))
			w := serveRecorded(tt.front(g, quiet()), tt.request)
			checkError(t, w, tt.notReady, tt.contentType, tt.message("state is damaged"))
		})
	}
}

// TestHandshakeNeedsNoCore: Docker loads a plugin that is still starting, or that failed to.
func TestHandshakeNeedsNoCore(t *testing.T) {
	failed := newGate()
	failed.fail(errors.New("state is damaged"))
	for _, g := range []*gate{newGate(), failed} {
		h := front{g, testProgram(nil).Docker, func(c *Core) http.Handler { return c.Docker }, quiet()}
		w := serveRecorded(h, httptest.NewRequest(http.MethodPost, "/NetworkDriver.GetCapabilities", nil))
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"Scope":"local"`) {
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	}
	g := newGate()
	g.open(&Core{Docker: answer("the core's")})
	h := front{g, testProgram(nil).Docker, func(c *Core) http.Handler { return c.Docker }, quiet()}
	w := serveRecorded(h, httptest.NewRequest(http.MethodPost, "/NetworkDriver.GetCapabilities", nil))
	if w.Body.String() != "the core's" {
		t.Errorf("with a core: %s", w.Body)
	}
}

// TestWaitingRequestWhoseClientLeaves is not passed on.
func TestWaitingRequestWhoseClientLeaves(t *testing.T) {
	ctx, leave := context.WithCancel(t.Context())
	leave()
	for _, tt := range fronts {
		w := serveRecorded(tt.front(newGate(), quiet()), tt.request.WithContext(ctx))
		if !strings.Contains(w.Body.String(), "canceled") {
			t.Errorf("%s: status %d: %s", tt.name, w.Code, w.Body)
		}
	}
}
