package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver"
)

// Tracker knows what weave tracks and can ask what is there. driver.Driver is one.
type Tracker interface {
	Networks() []driver.Network
	Endpoints() []driver.Endpoint
	// Observe tells for each of the endpoints what is really there. One that is gone may be left out.
	Observe(context.Context, []driver.Endpoint, driver.Source) map[driver.EndpointID]driver.Observation
}

// Names knows what Docker calls things, from memory. What it doesn't know it leaves empty.
type Names interface {
	NetworkName(network string) string
	Container(endpoint string) (id, name string)
	// Refresh waits for names as new as the call, until ctx ends; not at all where none can be had.
	Refresh(ctx context.Context)
}

// Options are what a Server needs.
type Options struct {
	Tracker Tracker                      // required
	Names   Names                        // optional: without it networks and containers have no names
	Status  func(context.Context) Status // optional: all of Status but Networks and Endpoints, which the Server counts
	Log     *logrus.Entry                // optional
}

// requestDeadline bounds each request. A live listing by nsproc of a hundred containers takes over ten seconds on a
// machine that has several times as much to do as it can; complete and late is better than cut off.
const requestDeadline = 30 * time.Second

// Server answers the API's requests.
type Server struct {
	options Options
	mux     *http.ServeMux
}

// NewServer returns a Server, which is an http.Handler.
func NewServer(o Options) *Server {
	if o.Names == nil {
		o.Names = noNames{}
	}
	if o.Status == nil {
		o.Status = func(context.Context) Status { return Status{} }
	}
	s := &Server{options: o, mux: http.NewServeMux()}
	s.mux.Handle(PathNetworks, s.get(s.networks))
	s.mux.Handle(PathEndpoints, s.get(s.endpoints))
	s.mux.Handle(PathStatus, s.get(s.status))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, &Error{http.StatusNotFound, fmt.Sprintf("path %q: unknown; want %s, %s or %s", r.URL.Path, PathNetworks, PathEndpoints, PathStatus)})
	})
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Error is a refusal by the server.
type Error struct {
	Code    int    `json:"-"` // the HTTP status
	Message string `json:"error"`
}

func (e *Error) Error() string { return e.Message }

func badRequest(err error) error { return &Error{http.StatusBadRequest, err.Error()} }

// get makes a handler for a GET of what answer returns.
func (s *Server) get(answer func(context.Context, *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			s.refuse(w, &Error{http.StatusMethodNotAllowed, fmt.Sprintf("method %s: want GET", r.Method)})
			return
		}
		if r.ContentLength != 0 {
			s.refuse(w, &Error{http.StatusBadRequest, "request has a body: want none"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestDeadline)
		defer cancel()
		v, err := answer(ctx, r)
		if err != nil {
			s.refuse(w, err)
			return
		}
		s.reply(w, http.StatusOK, v)
	})
}

// Refuse answers with an error: an *Error with its own status, another one with 500.
func Refuse(w http.ResponseWriter, err error) { new(Server).refuse(w, err) }

// refuse answers with an error: an *Error as it is, another one as the server's own fault.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	refusal, ok := errors.AsType[*Error](err)
	if !ok {
		refusal = &Error{http.StatusInternalServerError, err.Error()}
	}
	s.reply(w, refusal.Code, refusal)
}

// reply encodes v in whole before the first byte goes out, so that no answer is half of one.
func (s *Server) reply(w http.ResponseWriter, code int, v any) {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(v); err != nil {
		http.Error(w, `{"error":"the answer can't be encoded"}`, http.StatusInternalServerError)
		s.logf("encode an answer of the listing API: %v", err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if _, err := w.Write(body.Bytes()); err != nil {
		s.logf("answer a request of the listing API: %v", err)
	}
}

func (s *Server) logf(format string, args ...any) {
	if s.options.Log != nil {
		s.options.Log.Debugf(format, args...)
	}
}

func (s *Server) status(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	st := s.options.Status(ctx)
	st.Networks = len(s.options.Tracker.Networks())
	st.Endpoints = EndpointCounts{}
	for _, e := range s.options.Tracker.Endpoints() {
		switch e.State {
		case driver.Created:
			st.Endpoints.Created++
		case driver.Joined:
			st.Endpoints.Joined++
		case driver.Up:
			st.Endpoints.Up++
		}
	}
	st.Ranges = orEmpty(st.Ranges)
	st.Warnings = orEmpty(st.Warnings)
	if st.Reconcile != nil {
		reconcile := *st.Reconcile
		reconcile.Actions = orEmpty(reconcile.Actions)
		st.Reconcile = &reconcile
	}
	return st, nil
}

// orEmpty makes JSON's [] of what would be its null.
func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

type noNames struct{}

func (noNames) NetworkName(string) string         { return "" }
func (noNames) Container(string) (string, string) { return "", "" }
func (noNames) Refresh(context.Context)           {}
