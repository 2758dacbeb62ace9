// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func requestCapture(s *Server, user, query string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/v1/capture?"+query, http.NoBody)
	r.RemoteAddr = user
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// TestRefusedCapture: a request that can't be what somebody wants is refused before anything is captured.
func TestRefusedCapture(t *testing.T) {
	const root = "uid 0"
	long := url.QueryEscape("not port 1" + strings.Repeat(" or port 1", 60))
	for name, tt := range map[string]struct {
		user, query string
		code        int
		body        string
	}{
		"not root":              {"uid 1000", "endpoint=worker", 403, "only root"},
		"no endpoint":           {root, "", 400, "want one or two"},
		"three endpoints":       {root, "endpoint=a&endpoint=b&endpoint=c", 400, "want one or two"},
		"unknown":               {root, "endpoint=nobody", 404, "neither an endpoint"},
		"the same twice":        {root, "endpoint=worker&endpoint=eeee2", 400, "two that differ"},
		"two filters":           {root, "endpoint=worker&filter=tcp&filter=udp", 400, "given 2 times; want one"},
		"a filter that is long": {root, "endpoint=worker&filter=" + long, 400, "too long: give fewer conditions"},
		"another parameter":     {root, "endpoint=worker&x=1", 400, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			host := handHost()
			s := New(Options{Tracker: host, Inspector: host, Names: handNames()})
			w := requestCapture(s, tt.user, tt.query)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.body) {
				t.Errorf("status %d: %s; want %d: %s", w.Code, w.Body, tt.code, tt.body)
			}
		})
	}
}

// TestCaptureEndsWithStop: a capture keeps weave from stopping no longer than others' requests.
func TestCaptureEndsWithStop(t *testing.T) {
	host := handHost()
	s := New(Options{Tracker: host, Inspector: host, Names: handNames()})
	host.listen = func(ctx context.Context) {
		s.Stop()
		<-ctx.Done()
	}
	w := requestCapture(s, "uid 0", "endpoint=worker")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), errStopped.Error()) {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	if !host.hasDeadline {
		t.Error("the search for links has no deadline")
	}
}
