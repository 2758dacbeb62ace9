// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/sync/semaphore"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver/check"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// someLinks are links of the host that twoNetworks returns: one host end is down, and one is missing.
func someLinks(context.Context) (*netstate.Snapshot, error) {
	counters := netstate.Counters{
		RxPackets: 1, TxPackets: 2, RxBytes: 100, TxBytes: 200, RxErrors: 3, TxErrors: 4, RxDropped: 5, TxDropped: 6,
	}
	return &netstate.Snapshot{Links: []netstate.Link{
		{Name: "lo", Up: true, Carrier: true, Counters: &counters},
		{Name: "wve-eeee1000000", Up: true, Carrier: true, Counters: &counters},
		{Name: "wve-eeee2000000", Counters: &counters},
		{Name: "wve-eeee3000000"}, // whose counters are not known
	}}, nil
}

func TestTrafficNotKnown(t *testing.T) {
	host, names := twoNetworks()
	links := func(context.Context) (*netstate.Snapshot, error) { return nil, errors.New("they keep changing") }
	s := New(Options{Tracker: host, Inspector: host, Names: names, Links: links})
	code, body := get(t, s, api.PathTraffic)
	if code != http.StatusServiceUnavailable || !strings.Contains(body, "ask again: they keep changing") {
		t.Errorf("status %d, %s", code, body)
	}
}

// checkerFunc is a Checker.
type checkerFunc func(context.Context, check.Question) check.Result

func (f checkerFunc) Check(ctx context.Context, q check.Question) check.Result { return f(ctx, q) }

// ask sends a request of somebody who is not known, and returns status and body.
func ask(ctx context.Context, h http.Handler, method, target string) (int, string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, http.NoBody).WithContext(ctx))
	return w.Code, w.Body.String()
}

// TestPublic: anybody may list and check, and nothing else.
func TestPublic(t *testing.T) {
	host, names := twoNetworks()
	log := happened()
	log.Close() // so that streams end
	s := New(Options{
		Tracker: host, Inspector: host, Names: names, Status: fullStatus, Links: someLinks, Events: log,
		Checker: checkerFunc(func(context.Context, check.Question) check.Result { return check.Result{} }),
	})
	for _, tt := range []struct {
		method, target string
		code           int
	}{
		{"GET", "/v1/networks", 200},
		{"HEAD", "/v1/networks", 200},
		{"GET", "/v1/endpoints", 200},
		{"GET", "/v1/endpoints?live=kernel", 200},
		{"GET", "/v1/endpoints?live=nsproc", 403},
		{"GET", "/v1/endpoints?live=red", 400},
		{"GET", "/v1/traffic", 200},
		{"GET", "/v1/hosts", 200},
		{"GET", "/v1/status", 200},
		{"GET", "/v1/events?since=0", 200},
		{"POST", "/v1/check?from=eeee1&to=eeee2", 200},
		{"POST", "/v1/check?from=eeee1&to=10.32.0.1", 200}, // the gateway
		{"POST", "/v1/check?from=eeee1&to=192.0.2.1", 403},
		{"GET", "/v1/check?from=eeee1&to=eeee2", 405},
		{"POST", "/v1/networks", 405},
		{"GET", "/v1/endpoints/eeee1", 404},
		{"POST", "/v1/endpoints/eeee1/nsproc?request=list", 404},
		{"DELETE", "/v1/hosts/other", 404},
		{"POST", "/v1/capture?endpoint=eeee1", 404},
		{"POST", "/v1/report", 404},
		{"GET", "/v1/pools", 404},
		{"GET", "/v1/openapi.json", 404},
		{"GET", "/metrics", 404},
		{"GET", "/", 404},
	} {
		if code, body := ask(t.Context(), s.Public(), tt.method, tt.target); code != tt.code {
			t.Errorf("%s %s: status %d, %s, want %d", tt.method, tt.target, code, body, tt.code)
		}
	}
	if code, _ := ask(t.Context(), s, "POST", "/v1/check?from=eeee1&to=eeee2"); code != http.StatusForbidden {
		t.Errorf("a check over the socket by somebody who is not root: status %d, want 403", code)
	}
}

// TestPublicTurns: there is one check and one live listing at a time; others wait for as long as they like.
func TestPublicTurns(t *testing.T) {
	host, names := twoNetworks()
	begun, end := make(chan bool), make(chan bool)
	host.meanwhile = func() { begun <- true; <-end }
	s := New(Options{
		Tracker: host, Inspector: host, Names: names,
		Checker: checkerFunc(func(context.Context, check.Question) check.Result {
			host.meanwhile()
			return check.Result{}
		}),
	})
	for _, tt := range []struct {
		method, target string
		turns          *semaphore.Weighted
	}{
		{"GET", "/v1/endpoints?live=kernel", s.public.looks},
		{"POST", "/v1/check?from=eeee1&to=eeee2", s.public.checks},
	} {
		answered := make(chan int)
		go func() {
			code, _ := ask(t.Context(), s.Public(), tt.method, tt.target)
			answered <- code
		}()
		<-begun
		if tt.turns.TryAcquire(1) {
			t.Errorf("%s: there may be another one at the same time", tt.target)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if code, body := ask(ctx, s.Public(), tt.method, tt.target); code != http.StatusServiceUnavailable {
			t.Errorf("%s: another one: status %d, %s, want 503", tt.target, code, body)
		}
		end <- true
		if code := <-answered; code != http.StatusOK {
			t.Errorf("%s: the first one: status %d", tt.target, code)
		}
	}
}

// TestPublicStreams: so many streams of events that anybody may open take none from the group's members.
func TestPublicStreams(t *testing.T) {
	host, names := twoNetworks()
	log := happened()
	s := New(Options{Tracker: host, Inspector: host, Names: names, Events: log})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int)
	refused := 0
	for range maxPublicReaders + 2 {
		go func() {
			code, _ := ask(ctx, s.Public(), "GET", "/v1/events")
			ended <- code
		}()
	}
	for range 2 {
		if <-ended == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused != 2 {
		t.Errorf("%d streams too many are refused, want 2", refused)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if code, body := ask(stopped, s, "GET", "/v1/events"); code != http.StatusOK {
		t.Errorf("over the socket: status %d, %s", code, body)
	}
	cancel()
	for range maxPublicReaders {
		<-ended
	}
}
