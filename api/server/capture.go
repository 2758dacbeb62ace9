// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/capture"
	"github.com/weaveplugin/weave/capture/filter"
	"github.com/weaveplugin/weave/driver"
)

// maxCaptures is how many captures there are at once.
const maxCaptures = 4

// errStopped is why there is no more of a capture.
var errStopped = errors.New("the capture has ended early: weave is stopping")

// capture answers with a stream of what passes one endpoint, or between two.
func (s *Server) capture(w http.ResponseWriter, r *http.Request) {
	wanted, err := parseCapture(r.URL.RawQuery)
	if err != nil {
		Refuse(w, badRequest(err))
		return
	}
	if !s.captures.TryAcquire(1) {
		Refuse(w, errorf(http.StatusServiceUnavailable,
			"%d captures are under way: end one first", maxCaptures))
		return
	}
	defer s.captures.Release(1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.running, cancel)()
	links, e, problems, err := s.listen(ctx, wanted)
	if s.running.Err() != nil && err != nil {
		err = errorf(http.StatusServiceUnavailable, "%v", errStopped)
	}
	if err != nil {
		Refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-pcapng")
	w.Header().Set("Trailer", api.TrailerError)
	for _, p := range problems {
		w.Header().Add(api.HeaderProblem, strconv.QuoteToASCII(p))
	}
	err = capture.Run(ctx, newStream(w, fileTime), links, e, wanted.limits)
	if s.running.Err() != nil {
		err = errStopped
	}
	if err != nil && r.Context().Err() == nil {
		w.Header().Set(api.TrailerError, strconv.QuoteToASCII(err.Error()))
	}
}

// wantedCapture is what a request for a capture says.
type wantedCapture struct {
	endpoints []string
	filter    filter.Expr
	limits    capture.Limits
}

func parseCapture(raw string) (c wantedCapture, err error) {
	values, err := parseParameters(raw,
		api.ParamEndpoint, api.ParamFilter, api.ParamPackets, api.ParamBytes, api.ParamSeconds)
	if err != nil {
		return c, err
	}
	c.endpoints = values[api.ParamEndpoint]
	if n := len(c.endpoints); n < 1 || n > 2 {
		return c, fmt.Errorf("parameter %s: given %d times; want one or two", api.ParamEndpoint, n)
	}
	if n := len(values[api.ParamFilter]); n > 1 {
		return c, fmt.Errorf("parameter %s: given %d times; want one", api.ParamFilter, n)
	}
	if c.filter, err = filter.Parse(values.Get(api.ParamFilter)); err != nil {
		return c, err
	}
	packets, err := parseLimit(values, api.ParamPackets, math.MaxInt32)
	if err != nil {
		return c, err
	}
	bytes, err := parseLimit(values, api.ParamBytes, math.MaxInt64)
	if err != nil {
		return c, err
	}
	longest := int64(api.MaxCaptureTime / time.Second)
	seconds, err := parseLimit(values, api.ParamSeconds, longest)
	if err != nil {
		return c, err
	}
	if seconds == 0 {
		seconds = longest
	}
	c.limits = capture.Limits{Packets: int(packets), Bytes: bytes, Time: time.Duration(seconds) * time.Second}
	return c, nil
}

// parseLimit parses a number from 1 to most; 0: there is none.
func parseLimit(values url.Values, name string, most int64) (int64, error) {
	given, ok := values[name]
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(given[0], 10, 64)
	if err != nil || n < 1 || n > most || len(given) > 1 {
		return 0, fmt.Errorf("parameter %s: %.80q: want a number from 1 to %d", name, given, most)
	}
	return n, nil
}

// listen opens the sockets of a capture.
func (s *Server) listen(
	ctx context.Context, wanted wantedCapture,
) (links []capture.Link, e filter.Expr, problems []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, api.RequestTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			for _, l := range links {
				unix.Close(l.Socket)
			}
		}
	}()
	e = wanted.filter
	var addrs [][]netip.Addr
	var first string // id of the endpoint
	for _, name := range wanted.endpoints {
		entry, err := s.selectEndpoint(ctx, name)
		if err != nil {
			return links, e, nil, err
		}
		tracked, ok := s.tracked(entry.ID)
		if !ok {
			return links, e, nil, goneError(entry.ID)
		}
		if entry.ID == first {
			return links, e, nil, errorf(http.StatusBadRequest,
				"parameter %s: both are endpoint %.12s: want one, or two that differ", api.ParamEndpoint, entry.ID)
		}
		first = entry.ID
		more, unheard, err := s.options.Inspector.Listen(ctx, tracked.endpoint, nameOf(entry))
		if errors.Is(err, driver.ErrNotFound) {
			err = errorf(http.StatusNotFound, "%v", err)
		}
		if err != nil {
			return links, e, nil, err
		}
		links, problems = append(links, more...), append(problems, unheard...)
		addrs = append(addrs, addrsOf(entry))
	}
	if len(addrs) == 2 {
		e = filter.Between(addrs[0], addrs[1]).And(e)
	}
	if _, err := e.Program(capture.SnapLength); err != nil { // while it can be refused
		return links, e, nil, badRequest(err)
	}
	return links, e, problems, nil
}

func addrsOf(e api.Endpoint) (addrs []netip.Addr) {
	for _, a := range e.Addresses {
		addrs = append(addrs, a.Addr())
	}
	return addrs
}
