// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"

	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/api"
)

// maxPublicReaders is how many streams of events there are at a time for all who use Public together.
const maxPublicReaders = 8

// public bounds what those cost who use Public.
type public struct {
	checks  *semaphore.Weighted // that are under way
	looks   *semaphore.Weighted // live listings, likewise
	readers *semaphore.Weighted // of events
}

func newPublic() public {
	return public{semaphore.NewWeighted(1), semaphore.NewWeighted(1), semaphore.NewWeighted(maxPublicReaders)}
}

// Public returns a handler for what anybody may ask who can connect to a listener that knows nobody by a user or a
// password: lists, events, and checks, which send some packets. There is one check and one live listing at a time, for
// all of them. Nothing else of the API is there.
func (s *Server) Public() http.Handler {
	mux := http.NewServeMux()
	for _, route := range s.publicRoutes() {
		mux.Handle(route.path, s.only(route.methods, route.handler))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		Refuse(w, errorf(http.StatusNotFound, "path %q: not served here, see the API's socket", r.URL.Path))
	})
	return mux
}

// publicRoutes are all that Public has.
func (s *Server) publicRoutes() []route {
	read, post := []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}
	return []route{
		{api.PathNetworks, read, s.answer(s.networks)},
		{api.PathEndpoints, read, s.answer(s.publicEndpoints)},
		{api.PathTraffic, read, s.answer(s.traffic)},
		{api.PathHosts, read, s.answer(s.hosts)},
		{api.PathStatus, read, s.answer(s.status)},
		{api.PathEvents, read, http.HandlerFunc(s.publicEvents)},
		{api.PathCheck, post, s.answer(func(ctx context.Context, r *http.Request) (any, error) {
			return inTurn(ctx, s.public.checks, func() (any, error) { return s.check(ctx, r) })
		})},
	}
}

// publicEndpoints answers with endpoints. It does not run a process in each container for whoever likes to see that.
func (s *Server) publicEndpoints(ctx context.Context, r *http.Request) (any, error) {
	q, err := parseQuery(r.URL.RawQuery)
	switch {
	case err != nil:
		return nil, badRequest(err)
	case q.Live == api.Nsproc:
		return nil, errorf(http.StatusForbidden, "parameter %s: want %s here", api.ParamLive, api.Kernel)
	case q.Live == "":
		return s.endpoints(ctx, r)
	}
	return inTurn(ctx, s.public.looks, func() (any, error) { return s.endpoints(ctx, r) })
}

// publicEvents answers with a stream of events.
func (s *Server) publicEvents(w http.ResponseWriter, r *http.Request) {
	s.stream(w, r, s.public.readers, maxPublicReaders)
}

// inTurn calls f when all that came before have returned, unless the time for the request is over by then.
func inTurn(ctx context.Context, turns *semaphore.Weighted, f func() (any, error)) (any, error) {
	if turns.Acquire(ctx, 1) != nil {
		return nil, errorf(http.StatusServiceUnavailable, "others have asked for the same before: ask again later")
	}
	defer turns.Release(1)
	return f()
}
