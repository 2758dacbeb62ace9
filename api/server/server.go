// SPDX-License-Identifier: Apache-2.0

// Package server serves weave's API, whose types, paths and client are in the package api.
//
// It runs in the host's network namespace. What is inside a container's it learns from an Inspector.
package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/events"
	"github.com/weaveplugin/weave/internal/peer"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// Tracker knows which networks and endpoints weave has. driver.Driver is one.
type Tracker interface {
	Networks() []driver.Network
	Endpoints() []driver.Endpoint
}

// Inspector looks at what is really there of endpoints. inspect.Inspector is one.
type Inspector interface {
	// Observe returns what it saw of each of the endpoints; it may leave out those that it could not look at.
	Observe(context.Context, []driver.Endpoint, api.Source) map[driver.EndpointID]inspect.Observation
	// Examine returns all that it sees of one endpoint.
	Examine(context.Context, driver.Endpoint) inspect.Examination
	// Listen opens sockets for a capture at both ends of an endpoint.
	Listen(ctx context.Context, e driver.Endpoint, owner string) ([]capture.Link, []string, error)
}

// Names knows from memory what Docker calls networks and containers. What it doesn't know it returns as empty.
type Names interface {
	NetworkName(network string) string
	Container(endpoint string) (id, name string)
	// Refresh returns when the names are at least as new as the call, when ctx ends, or at once if no names can be had.
	Refresh(ctx context.Context)
}

// Links lists the links of the host's namespace.
type Links func(context.Context) (*netstate.Snapshot, error)

// Options are what a Server works with.
type Options struct {
	Tracker   Tracker                                // required
	Inspector Inspector                              // required
	Names     Names                                  // optional: without it networks and containers have no names
	Status    func(context.Context) api.Status       // all but what the Server counts itself; optional
	Pools     func() []ipam.Pool                     // of weave's IPAM; optional: without it there are none
	Cluster   Cluster                                // optional: nil if this host is in none
	Nsproc    Nsproc                                 // optional: without it nsproc is not run by hand
	Rules     Rules                                  // optional: without it no rules of the host's are listed
	DNS       DNS                                    // optional: without it nothing is known of containers' resolvers
	Checker   Checker                                // optional: without it nothing is checked
	Report    func(context.Context, io.Writer) error // writes a report; optional: without it there is none
	Links     Links                                  // the host's; optional: without it there is no traffic
	Events    *events.Log                            // optional: without it nothing happens
	Metrics   http.Handler                           // answers with metrics; optional: without it there are none
	Log       *logrus.Entry                          // optional

	// CheckHost looks at the host. Optional: without it nothing does.
	CheckHost func(context.Context) []api.HostFinding
}

// Server answers the API's requests. It is an http.Handler.
type Server struct {
	options  Options
	mux      *http.ServeMux
	readers  readers             // of events
	public   public              // what Public takes its turns with
	captures *semaphore.Weighted // that are under way
	matrices *semaphore.Weighted // checks of all pairs, likewise

	running context.Context // ends with Stop
	stop    context.CancelFunc
}

// New returns a Server.
func New(o Options) *Server {
	if o.Names == nil {
		o.Names = noNames{}
	}
	if o.Status == nil {
		o.Status = func(context.Context) api.Status { return api.Status{} }
	}
	if o.Pools == nil {
		o.Pools = func() []ipam.Pool { return nil }
	}
	if o.Events == nil {
		o.Events = events.New()
	}
	s := &Server{
		options: o, mux: http.NewServeMux(), readers: newReaders(), public: newPublic(),
		captures: semaphore.NewWeighted(maxCaptures), matrices: semaphore.NewWeighted(1),
	}
	s.running, s.stop = context.WithCancel(context.Background())
	for _, route := range s.routes() {
		s.mux.Handle(route.path, s.only(route.methods, route.handler))
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		Refuse(w, errorf(http.StatusNotFound, "path %q: unknown; want %s", r.URL.Path, s.paths()))
	})
	return s
}

// route is what requests with one of the methods for a path, a pattern of http.ServeMux's, are answered by.
type route struct {
	path    string
	methods []string
	handler http.Handler
}

// routes are all that there are. The API's description has them, too.
func (s *Server) routes() []route {
	read, post := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}
	return []route{
		{api.PathNetworks, read, s.answer(s.networks)},
		{api.PathEndpoints, read, s.answer(s.endpoints)},
		{api.PathEndpoints + "/{endpoint}", read, s.answer(s.inspect)},
		{api.PathEndpoints + "/{endpoint}/nsproc", post, forRoot(s.answer(s.runNsproc))},
		{api.PathCapture, post, forRoot(http.HandlerFunc(s.capture))},
		{api.PathCheck, post, forRoot(s.answer(s.check))},
		{api.PathCheckAll, post, forRoot(http.HandlerFunc(s.checkAll))},
		{api.PathCheckHost, post, forRoot(s.answer(s.checkHost))},
		{api.PathReport, post, forRoot(http.HandlerFunc(s.report))},
		{api.PathTraffic, read, s.answer(s.traffic)},
		{api.PathPools, read, s.answer(s.pools)},
		{api.PathHosts, read, s.answer(s.hosts)},
		{api.PathHosts + "/{host}", []string{http.MethodDelete}, forRoot(s.answer(s.forget))},
		{api.PathCluster, read, s.answer(s.cluster)},
		{api.PathStatus, read, s.answer(s.status)},
		{api.PathEvents, read, http.HandlerFunc(s.events)},
		{api.PathOpenAPI, read, s.answer(s.openAPI)},
		{api.PathMetrics, read, http.HandlerFunc(s.metrics)},
	}
}

// paths lists what can be read, for people.
func (s *Server) paths() string {
	var paths []string
	for _, r := range s.routes() {
		if slices.Contains(r.methods, http.MethodGet) {
			paths = append(paths, r.path)
		}
	}
	last := len(paths) - 1
	return strings.Join(paths[:last], ", ") + " or " + paths[last]
}

// openAPI answers with the description of the API.
func (s *Server) openAPI(_ context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	return json.RawMessage(api.OpenAPI), nil
}

// Stop ends the captures and the checks of all pairs that are under way, and each that is requested later: they would
// go on for long when weave is to stop. All other requests are answered as before.
func (s *Server) Stop() { s.stop() }

// metrics answers with metrics for Prometheus.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		Refuse(w, badRequest(err))
		return
	}
	if s.options.Metrics == nil {
		Refuse(w, errorf(http.StatusNotFound, "there are no metrics here"))
		return
	}
	s.options.Metrics.ServeHTTP(w, r)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// only returns a handler for requests with one of the methods, and without a body.
func (s *Server) only(methods []string, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", strings.Join(methods, ", "))
			Refuse(w, errorf(http.StatusMethodNotAllowed, "method %s: want %s", r.Method, methods[0]))
			return
		}
		if r.ContentLength != 0 {
			Refuse(w, errorf(http.StatusBadRequest, "request has a body: want none"))
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// forRoot returns a handler for requests of root alone: by which something is changed, or that see more than whoever
// may read lists.
func forRoot(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !peer.IsRoot(r) {
			Refuse(w, errorf(http.StatusForbidden, "only root may do this: run it as root, for example with sudo"))
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// answer returns a handler that answers with what list returns.
func (s *Server) answer(list func(context.Context, *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), api.RequestTimeout)
		defer cancel()
		v, err := list(ctx, r)
		if err != nil {
			Refuse(w, err)
			return
		}
		if err := write(w, http.StatusOK, v); err != nil {
			s.debug(err)
		}
	})
}

// Refuse answers with err as the API's error object: an *api.Error, wrapped or not, with its own status, any other
// error with 500. No part of another answer may have been written before. It is also for those that answer in the
// Server's place, while it is not there yet or when it has panicked.
func Refuse(w http.ResponseWriter, err error) {
	refusal, ok := errors.AsType[*api.Error](err)
	if !ok {
		refusal = errorf(http.StatusInternalServerError, "%v", err)
	}
	_ = write(w, refusal.Code, refusal) // it always encodes; a client that has gone away needs no answer
}

// write answers with v as JSON. It encodes all of v before it writes the first byte, so that no answer ends half-way.
func write(w http.ResponseWriter, code int, v any) error {
	var body bytes.Buffer
	encodeErr := json.NewEncoder(&body).Encode(v)
	if encodeErr != nil {
		code = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"error":"the answer can't be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, err := w.Write(body.Bytes())
	return errors.Join(encodeErr, err)
}

func errorf(code int, format string, args ...any) *api.Error {
	return &api.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func badRequest(err error) error { return errorf(http.StatusBadRequest, "%v", err) }

func (s *Server) status(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	st := s.options.Status(ctx)
	st.Networks = len(s.options.Tracker.Networks())
	st.Endpoints = countStates(s.options.Tracker.Endpoints())
	st.Ranges = orEmpty(st.Ranges)
	st.Warnings = orEmpty(st.Warnings)
	if st.Reconcile != nil {
		reconcile := *st.Reconcile
		reconcile.Actions = orEmpty(reconcile.Actions)
		st.Reconcile = &reconcile
	}
	return st, nil
}

func countStates(endpoints []driver.Endpoint) (n api.EndpointCounts) {
	for _, e := range endpoints {
		switch stateOf(e) {
		case api.Created:
			n.Created++
		case api.Joined:
			n.Joined++
		case api.Up:
			n.Up++
		}
	}
	return n
}

// orEmpty returns s, but an empty slice for nil, which JSON would have as null instead of [].
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
