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
	"net/http"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/internal/peer"
	"github.com/weaveplugin/weave/ipam"
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

// Options are what a Server works with.
type Options struct {
	Tracker   Tracker                          // required
	Inspector Inspector                        // required
	Names     Names                            // optional: without it networks and containers have no names
	Status    func(context.Context) api.Status // all but Networks and Endpoints, which the Server counts; optional
	Pools     func() []ipam.Pool               // of weave's IPAM; optional: without it there are none
	Cluster   Cluster                          // optional: nil if this host is in none
	Nsproc    Nsproc                           // optional: without it nsproc is not run by hand
	Rules     Rules                            // optional: without it no rules of the host's are listed
	DNS       DNS                              // optional: without it nothing is known of containers' resolvers
	Log       *logrus.Entry                    // optional
}

// Server answers the API's requests. It is an http.Handler.
type Server struct {
	options  Options
	mux      *http.ServeMux
	captures *semaphore.Weighted // that are under way
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
	s := &Server{options: o, mux: http.NewServeMux(), captures: semaphore.NewWeighted(maxCaptures)}
	s.mux.Handle(api.PathNetworks, s.get(s.networks))
	s.mux.Handle(api.PathEndpoints, s.get(s.endpoints))
	s.mux.Handle(api.PathEndpoints+"/{endpoint}", s.get(s.inspect))
	s.mux.Handle(api.PathEndpoints+"/{endpoint}/nsproc", s.change(http.MethodPost, s.runNsproc))
	s.mux.HandleFunc(api.PathCapture, s.capture)
	s.mux.Handle(api.PathPools, s.get(s.pools))
	s.mux.Handle(api.PathHosts, s.get(s.hosts))
	s.mux.Handle(api.PathHosts+"/{host}", s.change(http.MethodDelete, s.forget))
	s.mux.Handle(api.PathCluster, s.get(s.cluster))
	s.mux.Handle(api.PathStatus, s.get(s.status))
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		Refuse(w, errorf(http.StatusNotFound, "path %q: unknown; want %s, %s, %s, %s, %s or %s", r.URL.Path,
			api.PathNetworks, api.PathEndpoints, api.PathPools, api.PathHosts, api.PathCluster, api.PathStatus))
	})
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// get returns a handler for GET requests, which answers with what list returns.
func (s *Server) get(list func(context.Context, *http.Request) (any, error)) http.Handler {
	return s.handle([]string{http.MethodGet, http.MethodHead}, list)
}

// change returns a handler for requests by which root changes something; whoever may read may not do that.
func (s *Server) change(method string, do func(context.Context, *http.Request) (any, error)) http.Handler {
	return s.handle([]string{method}, func(ctx context.Context, r *http.Request) (any, error) {
		if !peer.IsRoot(r) {
			return nil, errNotRoot()
		}
		return do(ctx, r)
	})
}

// handle returns a handler for requests with one of the methods, which answers with what list returns.
func (s *Server) handle(methods []string, list func(context.Context, *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !accepts(w, r, methods...) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), api.RequestTimeout)
		defer cancel()
		v, err := list(ctx, r)
		if err != nil {
			Refuse(w, err)
			return
		}
		if err := write(w, http.StatusOK, v); err != nil && s.options.Log != nil {
			s.options.Log.WithError(err).Debug("answer a request of the API")
		}
	})
}

// accepts reports whether a request has one of the methods and no body; otherwise it refuses it.
func accepts(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if !slices.Contains(methods, r.Method) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		Refuse(w, errorf(http.StatusMethodNotAllowed, "method %s: want %s", r.Method, methods[0]))
		return false
	}
	if r.ContentLength != 0 {
		Refuse(w, errorf(http.StatusBadRequest, "request has a body: want none"))
		return false
	}
	return true
}

// errNotRoot refuses what root alone may do.
func errNotRoot() error {
	return errorf(http.StatusForbidden, "only root may do this: run it as root, for example with sudo")
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
