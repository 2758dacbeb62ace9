// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/events"
	"github.com/weaveplugin/weave/internal/peer"
)

const (
	// maxReaders is how many streams of events there are at a time for root, and as many for all others together.
	maxReaders = 16
	// writeTimeout is how long one event may wait for a reader that does not read.
	writeTimeout = 10 * time.Second
	// serverSentEvents is the type of the stream that web browsers read.
	serverSentEvents = "text/event-stream"
)

// readers bounds how many streams of events there are.
type readers struct{ root, others *semaphore.Weighted }

func newReaders() readers {
	return readers{semaphore.NewWeighted(maxReaders), semaphore.NewWeighted(maxReaders)}
}

// events answers with a stream of events.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	slots := s.readers.others
	if peer.IsRoot(r) {
		slots = s.readers.root
	}
	s.stream(w, r, slots, maxReaders)
}

// stream answers with a stream of events, which takes one of the slots, of which there are so many.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, slots *semaphore.Weighted, most int) {
	q, err := parseEventQuery(r.URL.RawQuery)
	if err != nil {
		Refuse(w, badRequest(err))
		return
	}
	asServerSent := slices.ContainsFunc(r.Header.Values("Accept"), func(v string) bool {
		return strings.Contains(v, serverSentEvents)
	})
	if last := r.Header.Get("Last-Event-ID"); asServerSent && last != "" { // a browser that connects again
		q.Cursor = last
	}
	reader, err := s.newReader(q)
	if err != nil {
		Refuse(w, badRequest(fmt.Errorf("parameter %s: %.80q: %w", api.ParamCursor, q.Cursor, err)))
		return
	}
	if !slots.TryAcquire(1) {
		Refuse(w, errorf(http.StatusServiceUnavailable,
			"%d streams of events are open already, which is the most: end one of them", most))
		return
	}
	defer slots.Release(1)
	ctx := r.Context()
	if !q.Until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.Until)
		defer cancel()
	}
	stream := eventWriter{newStream(w, writeTimeout), asServerSent}
	if err := stream.begin(); err != nil {
		s.debug(err)
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	if err := s.send(ctx, q, reader, stream); err != nil {
		s.debug(err)
	}
}

// debug logs why a client did not get an answer.
func (s *Server) debug(err error) {
	if s.options.Log != nil {
		s.options.Log.WithError(err).Debug("answer a request of the API")
	}
}

// newReader returns a reader at the place where the query begins.
func (s *Server) newReader(q api.EventQuery) (*events.Reader, error) {
	switch {
	case q.Cursor != "":
		return s.options.Events.After(q.Cursor)
	case !q.Since.IsZero():
		return s.options.Events.Since(q.Since), nil
	}
	return s.options.Events.NewReader(), nil
}

// send sends events until there are no more, or ctx ends, which is no error.
func (s *Server) send(ctx context.Context, q api.EventQuery, reader *events.Reader, stream eventWriter) error {
	for {
		// Those that are there already are sent although the time until which they are wanted is over.
		e, err := reader.Next(ctx)
		switch {
		case errors.Is(err, events.ErrClosed) || err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case !q.Until.IsZero() && !e.Time.Before(q.Until) && e.Type != api.LostEvent:
			return nil
		}
		if e = s.named(e); wanted(q, e) {
			if err := stream.write(e); err != nil {
				return err
			}
		}
	}
}

// named returns an event with the names that Docker has told since.
func (s *Server) named(e api.Event) api.Event {
	if e.NetworkName == "" && e.NetworkID != "" {
		e.NetworkName = s.options.Names.NetworkName(e.NetworkID)
	}
	if e.ContainerID == "" && e.EndpointID != "" {
		e.ContainerID, e.ContainerName = s.options.Names.Container(e.EndpointID)
	}
	return e
}

// wanted reports whether a query selects an event. That some are lost is always wanted.
func wanted(q api.EventQuery, e api.Event) bool {
	if e.Type == api.LostEvent {
		return true
	}
	network := candidate{e.NetworkID, e.NetworkName}
	container := candidate{e.ContainerID, e.ContainerName}
	return !e.Time.Before(q.Since) &&
		(len(q.Types) == 0 || slices.Contains(q.Types, e.Type)) &&
		(len(q.Networks) == 0 || matchesAny(q.Networks, network)) &&
		(len(q.Endpoints) == 0 || matchesAny(q.Endpoints, candidate{id: e.EndpointID}, container))
}

// matchesAny reports whether one of the filters means one of the candidates.
func matchesAny(filters []string, candidates ...candidate) bool {
	return slices.ContainsFunc(filters, func(f string) bool {
		ids, _ := match(strings.TrimPrefix(f, "/"), candidates)
		delete(ids, "") // what is not known
		return len(ids) > 0
	})
}

// eventWriter writes events to a client, each by itself.
type eventWriter struct {
	stream
	asServerSent bool
}

// begin tells the client that the stream has begun.
func (e eventWriter) begin() error {
	e.w.Header().Set("Content-Type", "application/x-ndjson")
	if e.asServerSent {
		e.w.Header().Set("Content-Type", serverSentEvents)
		e.w.Header().Set("Cache-Control", "no-cache")
	}
	_, err := e.Write(nil)
	return err
}

func (e eventWriter) write(event api.Event) error {
	text, err := json.Marshal(event)
	if err != nil {
		return err
	}
	if e.asServerSent {
		text = fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n", event.Cursor, event.Type, text)
	}
	_, err = e.Write(append(text, '\n'))
	return err
}

// parseEventQuery parses the parameters of a stream of events. Its errors name the parameter, the value and what is
// accepted.
func parseEventQuery(raw string) (q api.EventQuery, err error) {
	values, err := parseParameters(raw, api.ParamType, api.ParamNetwork, api.ParamEndpoint, api.ParamCursor,
		api.ParamSince, api.ParamUntil)
	if err != nil {
		return q, err
	}
	for _, name := range []string{api.ParamNetwork, api.ParamEndpoint} {
		if err := checkFilters(name, values[name]); err != nil {
			return q, err
		}
	}
	q.Networks, q.Endpoints = values[api.ParamNetwork], values[api.ParamEndpoint]
	for _, text := range values[api.ParamType] {
		t := api.EventType(text)
		if !slices.Contains(api.EventTypes, t) {
			return q, fmt.Errorf("parameter %s: %.80q: want one of %s", api.ParamType, text, join(api.EventTypes))
		}
		if !slices.Contains(q.Types, t) {
			q.Types = append(q.Types, t)
		}
	}
	if q.Cursor, err = single(values, api.ParamCursor); err != nil {
		return q, err
	}
	if cursor, ok := values[api.ParamCursor]; ok && cursor[0] == "" {
		return q, fmt.Errorf("parameter %s: \"\": %w", api.ParamCursor, events.ErrCursor)
	}
	since, sinceErr := parseTime(values, api.ParamSince)
	until, untilErr := parseTime(values, api.ParamUntil)
	q.Since, q.Until = since, until
	return q, cmp.Or(sinceErr, untilErr)
}

// join returns texts with commas between.
func join[T ~string](list []T) string {
	texts := make([]string, len(list))
	for i, t := range list {
		texts[i] = string(t)
	}
	return strings.Join(texts, ", ")
}

// single returns the value of a parameter that is given once at most; empty: it is not given.
func single(values url.Values, name string) (string, error) {
	if len(values[name]) > 1 {
		return "", fmt.Errorf("parameter %s: given %d times; want it once", name, len(values[name]))
	}
	return values.Get(name), nil
}

// parseTime parses a time as RFC 3339 has it, or as seconds since 1970 with or without a fraction, as Docker's API
// does. It returns the zero time if the parameter is not given.
func parseTime(values url.Values, name string) (time.Time, error) {
	text, err := single(values, name)
	if err != nil || !values.Has(name) {
		return time.Time{}, err
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return at, nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(seconds >= 0 && seconds < 1<<33) {
		return time.Time{}, fmt.Errorf("parameter %s: %.80q: want a time, 2006-01-02T15:04:05Z, or seconds since 1970",
			name, text)
	}
	return time.UnixMicro(int64(seconds * 1e6)), nil
}
