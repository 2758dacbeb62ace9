// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/api"
)

// TestCheckHost: failures are counted, and a server without what looks at the host says so.
func TestCheckHost(t *testing.T) {
	s := New(Options{Tracker: &fakeHost{}, CheckHost: func(context.Context) []api.HostFinding {
		return []api.HostFinding{
			{Part: api.HostKernel, Result: api.CheckFailed}, {Part: api.HostPorts, Result: api.CheckWarning},
			{Part: api.HostPorts, Result: api.CheckFailed},
		}
	}})
	answer, err := s.checkHost(t.Context(), request(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if c := answer.(api.HostCheck); c.Failed != 2 || len(c.Findings) != 3 {
		t.Errorf("got %+v, want three findings, of which two fail", c)
	}
	if _, err := s.checkHost(t.Context(), request(t, "deep=1")); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("an unknown parameter: %v", err)
	}
	if _, err := New(Options{}).checkHost(t.Context(), request(t, "")); err == nil {
		t.Error("nothing looks at the host, and no error")
	}
}

func request(t *testing.T, query string) *http.Request {
	t.Helper()
	url := "http://weave" + api.PathCheckHost + "?" + query
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
