// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func fullStatus(context.Context) api.Status {
	return api.Status{
		Version: "1.0.0", Commit: "abcdef", StateID: "0123456789abcdef", PID: 42, Started: day, Uptime: 90.5,
		Store: "/var/lib/weave/weave.db", Ranges: prefixes("10.32.0.0/12", "fd00::/48"),
		Docker:  api.Docker{Error: "get /_ping of docker's API: connection refused"},
		Cluster: &inCluster,
		Reconcile: &api.Reconcile{
			Ended: day, Took: 0.012,
			Actions: []string{"recreated bridge wv-aaaa10000000"}, Error: "bridge br-db: missing",
		},
		Warnings: []string{"no firewall back end"},
	}
}

// newServer returns a Server of the host that twoNetworks returns, in a cluster or not.
func newServer(c Cluster) *Server {
	host, names := twoNetworks()
	return New(Options{
		Tracker: host, Inspector: host, Names: names, Status: fullStatus, Pools: somePools, Cluster: c,
		Links: someLinks,
	})
}

// get sends a GET and returns status and body.
func get(t testing.TB, h http.Handler, target string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("GET %s: content type %q, want application/json", target, got)
	}
	return w.Code, w.Body.String()
}

// TestVersion1IsFrozen compares whole answers with those of the first release: a difference breaks somebody's script.
func TestVersion1IsFrozen(t *testing.T) {
	for name, tt := range map[string]struct {
		cluster Cluster
		target  string
	}{
		"networks":  {nil, "/v1/networks"},
		"endpoints": {nil, "/v1/endpoints"},
		"live":      {nil, "/v1/endpoints?network=app&live=kernel"},
		"remote":    {twoHosts{}, "/v1/endpoints?container=web"},
		"traffic":   {nil, "/v1/traffic"},
		"pools":     {twoHosts{}, "/v1/pools"},
		"hosts":     {twoHosts{}, "/v1/hosts"},
		"cluster":   {twoHosts{}, "/v1/cluster"},
		"status":    {nil, "/v1/status"},
	} {
		t.Run(name, func(t *testing.T) {
			code, body := get(t, newServer(tt.cluster), tt.target)
			if code != http.StatusOK {
				t.Fatalf("status %d: %s", code, body)
			}
			golden(t, name, body)
		})
	}
	t.Run("empty", func(t *testing.T) {
		s := New(Options{Tracker: &fakeHost{}, Inspector: &fakeHost{}})
		var all strings.Builder
		for _, target := range []string{
			"/v1/networks", "/v1/endpoints", "/v1/endpoints?live=1", "/v1/traffic", "/v1/pools", "/v1/hosts",
			"/v1/cluster",
		} {
			code, body := get(t, s, target)
			fmt.Fprintf(&all, "%d %s", code, body)
		}
		if diff := cmp.Diff("200 []\n200 []\n200 []\n200 []\n200 []\n200 []\n200 null\n", all.String()); diff != "" {
			t.Errorf("listings of nothing (-want +got):\n%s", diff)
		}
	})
}

func golden(t *testing.T, name, body string) {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "testdata", name+".json")
	if *update {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	const paths = "/v1/networks, /v1/endpoints, /v1/endpoints/{endpoint}, /v1/traffic, /v1/pools, /v1/hosts, " +
		"/v1/cluster, /v1/status, /v1/events, /v1/openapi.json or /metrics"
	tests := []struct {
		target string
		code   int
		want   string // the error
	}{
		{"/v1/endpoints?network=nowhere", 404,
			`parameter network: "nowhere": weave has no such network here`},
		{"/v1/endpoints?network=aaa", 404, `parameter network: "aaa": weave has no such network here`},
		{"/v1/endpoints?network=db&network=nowhere", 404,
			`parameter network: "nowhere": weave has no such network here`},
		{"/v1/endpoints?network=aaaa", 400,
			`parameter network: "aaaa": 2 networks begin so; want more of the id, or the name`},
		{"/v1/endpoints?network=", 400,
			`parameter network: "": want an id, the beginning of one or a name, 1 to 256 bytes`},
		{"/v1/endpoints?container=", 400,
			`parameter container: "": want an id, the beginning of one or a name, 1 to 256 bytes`},
		{"/v1/endpoints?container=" + strings.Repeat("x", 257), 400,
			`parameter container: "xxxxxxxxxxxxxxxxxxxx": want an id, the beginning of one or a name, 1 to 256 bytes`},
		{"/v1/endpoints?" + strings.Repeat("container=x&", 1001), 400,
			`parameter container: given 1001 times; want at most 1000`},
		{"/v1/endpoints?live=maybe", 400, `parameter live: ["maybe"]: want one of 1, kernel, nsproc`},
		{"/v1/endpoints?live=", 400, `parameter live: [""]: want one of 1, kernel, nsproc`},
		{"/v1/endpoints?live=1&live=1", 400, `parameter live: ["1" "1"]: want one of 1, kernel, nsproc`},
		{"/v1/endpoints?contianer=web", 400,
			`parameter "contianer": "web": unknown; want network, container, live, local`},
		{"/v1/endpoints?local=", 400, `parameter local: [""]: want 1`},
		{"/v1/endpoints?local=1&local=1", 400, `parameter local: ["1" "1"]: want 1`},
		{"/v1/endpoints?network=%zz", 400, `parameters "network=%zz": invalid URL escape "%zz"`},
		{"/v1/networks?network=db", 400, `parameter "network": "db": unknown; want no parameter`},
		{"/v1/status?x", 400, `parameter "x": "": unknown; want no parameter`},
		{"/v1/hosts?x", 400, `parameter "x": "": unknown; want no parameter`},
		{"/v1/pools?x", 400, `parameter "x": "": unknown; want no parameter`},
		{"/v1/cluster?x", 400, `parameter "x": "": unknown; want no parameter`},
		{"/v2/networks", 404,
			`path "/v2/networks": unknown; want ` + paths},
		{"/", 404,
			`path "/": unknown; want ` + paths},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			code, body := get(t, newServer(nil), tt.target)
			var got map[string]string
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			if code != tt.code {
				t.Errorf("status %d, want %d", code, tt.code)
			}
			if diff := cmp.Diff(map[string]string{"error": tt.want}, got); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRefuse: what answers in the Server's place, before it is there or after a panic, answers in its format.
func TestRefuse(t *testing.T) {
	starting := &api.Error{Code: http.StatusServiceUnavailable, Message: "weave is starting"}
	for name, tt := range map[string]struct {
		err     error
		code    int
		message string
	}{
		"refusal":         {starting, 503, "weave is starting"},
		"wrapped refusal": {fmt.Errorf("wait for the state: %w", starting), 503, "weave is starting"},
		"any other error": {errors.New("a defect"), 500, "a defect"},
	} {
		t.Run(name, func(t *testing.T) {
			refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { Refuse(w, tt.err) })
			code, body := get(t, refuse, api.PathStatus)
			var got map[string]string
			if err := json.Unmarshal([]byte(body), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]string{"error": tt.message}, got); diff != "" || code != tt.code {
				t.Errorf("status %d, want %d; answer (-want +got):\n%s", code, tt.code, diff)
			}
		})
	}
}

func TestOnlyGETWithoutBody(t *testing.T) {
	for _, tt := range []struct {
		method, body string
		want         int
	}{
		{http.MethodGet, "", 200},
		{http.MethodHead, "", 200},
		{http.MethodGet, "{}", 400},
		{http.MethodPost, "", 405},
		{http.MethodDelete, "", 405},
	} {
		w := httptest.NewRecorder()
		newServer(nil).ServeHTTP(w, httptest.NewRequest(tt.method, api.PathNetworks, strings.NewReader(tt.body)))
		if w.Code != tt.want {
			t.Errorf("%s with body %q: status %d, want %d: %s", tt.method, tt.body, w.Code, tt.want, w.Body)
		}
		if allow := w.Header().Get("Allow"); (w.Code == 405) != (allow == "GET, HEAD") {
			t.Errorf("%s: status %d with Allow %q", tt.method, w.Code, allow)
		}
	}
}

// TestMetrics: the server passes scrapes on, with no parameters.
func TestMetrics(t *testing.T) {
	if code, _ := getPath(newServer(nil), api.PathMetrics); code != http.StatusNotFound {
		t.Errorf("without metrics: status %d", code)
	}
	s := New(Options{Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "weave_networks 1\n")
	})})
	if code, body := getPath(s, api.PathMetrics); code != http.StatusOK || body != "weave_networks 1\n" {
		t.Errorf("status %d, %q", code, body)
	}
	if code, _ := getPath(s, api.PathMetrics+"?name=weave_networks"); code != http.StatusBadRequest {
		t.Errorf("with a parameter: status %d", code)
	}
}
