// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"

	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver/check"
)

// maxPublicReaders is how many streams of events there are at a time for all who use Public together.
const maxPublicReaders = 8

// public bounds what those cost who use Public.
type public struct {
	checks  *semaphore.Weighted // that are under way
	looks   *semaphore.Weighted // live listings, likewise
	traffic *semaphore.Weighted // likewise
	status  *semaphore.Weighted // likewise
	readers *semaphore.Weighted // of events
}

func newPublic() public {
	one := func() *semaphore.Weighted { return semaphore.NewWeighted(1) }
	return public{one(), one(), one(), one(), semaphore.NewWeighted(maxPublicReaders)}
}

// Public returns a handler for what anybody may ask who can connect to a listener that knows nobody by a user or a
// password: lists, events, and checks inside networks, which send some packets. What costs more than a look at weave's
// memory is done for one of them at a time. Nothing else of the API is there.
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
		{api.PathTraffic, read, s.answer(alone(s.public.traffic, s.traffic))},
		{api.PathHosts, read, s.answer(s.hosts)},
		{api.PathStatus, read, s.answer(alone(s.public.status, s.status))},
		{api.PathEvents, read, http.HandlerFunc(s.publicEvents)},
		{api.PathCheck, post, s.answer(alone(s.public.checks, s.publicCheck))},
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
	return alone(s.public.looks, s.endpoints)(ctx, r)
}

// publicCheck is check inside a network: nobody is to look around from inside a container at what is beyond.
func (s *Server) publicCheck(ctx context.Context, r *http.Request) (any, error) {
	return s.checkIf(ctx, r, func(q check.Question) error {
		for _, p := range q.From.Network.Pools {
			if p.Subnet.Contains(q.Address) {
				return nil
			}
		}
		return errorf(http.StatusForbidden, "%s is outside of %s's networks: use weave check", q.Address, q.From.Name)
	})
}

// alone returns what does the same when all that came before have returned, unless the time for the request is over by
// then.
func alone(turns *semaphore.Weighted, do func(context.Context, *http.Request) (any, error)) func(
	context.Context, *http.Request,
) (any, error) {
	return func(ctx context.Context, r *http.Request) (any, error) {
		if turns.Acquire(ctx, 1) != nil {
			return nil, errorf(http.StatusServiceUnavailable, "others have asked for the same before: ask again later")
		}
		defer turns.Release(1)
		return do(ctx, r)
	}
}

// publicEvents answers with a stream of events.
func (s *Server) publicEvents(w http.ResponseWriter, r *http.Request) {
	s.stream(w, r, s.public.readers, maxPublicReaders)
}
