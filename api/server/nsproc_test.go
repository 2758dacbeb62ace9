// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/protocol"
)

// handRun is the Nsproc of a host; it notes what it has to run.
type handRun struct {
	wanted string
	err    error // why it is not run
	failed error // of nsproc
	cut    bool  // there was more than could be recorded
}

func (h *handRun) RunNsproc(
	_ context.Context, id driver.EndpointID, request driver.NsprocRequest,
) (launch.Run, error) {
	h.wanted = fmt.Sprintf("%.5s %s", id, request)
	return launch.Run{
		Request: protocol.Request{Version: protocol.Version, Configure: &protocol.Configure{}}, Whole: !h.cut,
		Answer: []byte(`{"version":1}`), Err: h.failed, Took: time.Millisecond,
	}, h.err
}

// TestRunNsproc: root can run nsproc for one endpoint, named by its id or by its container's name or id.
func TestRunNsproc(t *testing.T) {
	const root, other = "uid 0", "uid 1000"
	gone := fmt.Errorf("%w: endpoint", driver.ErrNotFound)
	for name, tt := range map[string]struct {
		method, path, user string
		err, failed        error
		code               int
		body, wanted       string
	}{
		"by a part of the id": {
			"POST", "eeee2/nsproc?request=configure", root, nil, nil, 200, `"answer":{"version":1}`, "eeee2 configure",
		},
		"by the name of the container": {
			"POST", "worker/nsproc?request=configure", root, nil, nil, 200, `"tookSeconds":0.001`, "eeee2 configure",
		},
		"by the container's id": {
			"POST", "cccc2/nsproc?request=configure&trace=1", root, nil, nil, 200, `"endpoint":{"id":"eeee2`,
			"eeee2 configure",
		},
		"by the name with a slash, as Docker's API has it": {
			"POST", "%2Fworker/nsproc?request=configure", root, nil, nil, 200, "", "eeee2 configure",
		},
		"a container's name that an endpoint's id begins with": {
			"POST", "eeee1/nsproc?request=configure", root, nil, nil, 200, `"containerName":"eeee1"`, "eeee4 configure",
		},
		"nsproc fails": {
			"POST", "eeee2/nsproc?request=list", root, nil, errors.New("a refusal"), 200, `"error":"a refusal"`,
			"eeee2 list",
		},
		"in no container": {
			"POST", "eeee2/nsproc?request=list", root, gone, nil, 404, "not found: endpoint", "eeee2 list",
		},
		"a defect": {
			"POST", "eeee2/nsproc?request=list", root, errors.New("a defect"), nil, 500, "a defect", "eeee2 list",
		},
		"of two networks": {"POST", "web/nsproc?request=list", root, nil, nil, 400, "could be any of eeee", ""},
		"unknown":         {"POST", "nobody/nsproc?request=list", root, nil, nil, 404, "neither an endpoint", ""},
		"a long name": {
			"POST", strings.Repeat("x", 300) + "/nsproc?request=list", root, nil, nil, 400, "want an id", "",
		},
		"no request":        {"POST", "eeee2/nsproc", root, nil, nil, 400, "want list or configure", ""},
		"another request":   {"POST", "eeee2/nsproc?request=names", root, nil, nil, 400, "want list or configure", ""},
		"another parameter": {"POST", "eeee2/nsproc?request=list&x=1", root, nil, nil, 400, "unknown", ""},
		"not root":          {"POST", "eeee2/nsproc?request=list", other, nil, nil, 403, "only root", ""},
		"another method":    {"GET", "eeee2/nsproc?request=list", root, nil, nil, 405, "want POST", ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := &handRun{err: tt.err, failed: tt.failed}
			s := New(Options{Tracker: handHost(), Inspector: &fakeHost{}, Names: handNames(), Nsproc: h})
			r := httptest.NewRequest(tt.method, "/v1/endpoints/"+tt.path, http.NoBody)
			r.RemoteAddr = tt.user
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.body) || h.wanted != tt.wanted {
				t.Errorf("status %d, run %q: %s; want %d, %q: %s",
					w.Code, h.wanted, w.Body, tt.code, tt.wanted, tt.body)
			}
		})
	}
}

// TestTruncatedTrace: that there is more than the trace has is told to whoever wants the trace.
func TestTruncatedTrace(t *testing.T) {
	s := New(Options{Tracker: handHost(), Inspector: &fakeHost{}, Names: handNames(), Nsproc: &handRun{cut: true}})
	for query, want := range map[string]bool{"request=list": false, "request=list&trace=1": true} {
		r := httptest.NewRequest(http.MethodPost, "/v1/endpoints/worker/nsproc?"+query, http.NoBody)
		r.RemoteAddr = "uid 0"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK || strings.Contains(w.Body.String(), `"truncated":true`) != want {
			t.Errorf("%s: status %d: %s", query, w.Code, w.Body)
		}
	}
}

// handHost is a host with two endpoints of the container web, one of worker, and one of a container whose name is the
// beginning of another endpoint's id.
func handHost() *fakeHost {
	f := &fakeHost{networks: []driver.Network{{Definition: driver.Definition{ID: driver.NetworkID(id("aaaa1"))}}}}
	for _, begin := range []string{"eeee1", "eeee2", "eeee3", "eeee4"} {
		f.endpoints = append(f.endpoints, driver.Endpoint{
			ID: driver.EndpointID(id(begin)), Network: f.networks[0].ID, Created: day,
		})
	}
	return f
}

func handNames() fakeNames {
	web, worker := [2]string{id("cccc1"), "web"}, [2]string{id("cccc2"), "worker"}
	return fakeNames{
		networks: map[string]string{id("aaaa1"): "app"},
		containers: map[string][2]string{
			id("eeee1"): web, id("eeee2"): worker, id("eeee3"): web, id("eeee4"): {id("cccc3"), "eeee1"},
		},
	}
}
