// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/driver/inspect"
)

// brokenParts fail to tell what they are asked for.
type brokenParts struct{}

func (brokenParts) FirewallRules(context.Context, driver.Network) ([]firewall.Rule, error) {
	return []firewall.Rule{{Table: "legacy", Text: "-j DROP"}}, errors.New("no nftables")
}

func (brokenParts) DNS(context.Context, string) (*api.DNS, error) {
	return nil, errors.New("no docker")
}

// TestInspect: an endpoint is shown with its drift and what to do; what can't be seen is told.
func TestInspect(t *testing.T) {
	host := handHost()
	endpoint := host.endpoints[1].ID
	host.observed = map[driver.EndpointID]inspect.Observation{endpoint: {Bridge: "docker0"}}
	s := New(Options{
		Tracker: host, Inspector: host, Names: handNames(), Rules: brokenParts{}, DNS: brokenParts{},
	})
	code, body := getPath(s, "/v1/endpoints/worker")
	var x api.Inspection
	if err := json.Unmarshal([]byte(body), &x); err != nil || code != http.StatusOK {
		t.Fatalf("status %d, error %v: %s", code, err, body)
	}
	drift := x.Endpoint.Drift
	if len(drift) != 1 || drift[0].Kind != api.HostEndMissing || drift[0].Advice == "" {
		t.Errorf("drift %+v, want a missing host end, with advice", drift)
	}
	if x.Network.Name != "app" || x.Network.Endpoints != 4 || x.HostEnd != nil || x.Sandbox != nil {
		t.Errorf("got %+v", x)
	}
	if want := []string{"no nftables", "the container's resolver: no docker"}; !slices.Equal(x.Problems, want) {
		t.Errorf("problems %q, want %q", x.Problems, want)
	}
	if len(x.Rules) != 1 || x.Rules[0].Packets != nil {
		t.Errorf("rules %+v, want one without a counter", x.Rules)
	}

	host.meanwhile = func() { host.endpoints = host.endpoints[:1] }
	code, body = getPath(s, "/v1/endpoints/worker")
	if code != http.StatusNotFound || !strings.Contains(body, "gone") {
		t.Errorf("removed meanwhile: status %d: %s", code, body)
	}
	for path, want := range map[string]int{
		"/v1/endpoints/nobody": http.StatusNotFound, "/v1/endpoints/web?x=1": http.StatusBadRequest,
	} {
		if code, body := getPath(s, path); code != want {
			t.Errorf("%s: status %d, want %d: %s", path, code, want, body)
		}
	}
}

func getPath(s *Server, path string) (code int, body string) {
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	return w.Code, w.Body.String()
}
