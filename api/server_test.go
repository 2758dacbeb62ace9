package api

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/driver"
)

var update = flag.Bool("update", false, "write the golden files anew")

func fullStatus(context.Context) Status {
	return Status{
		Version: "1.0.0", Commit: "abcdef", StateID: "0123456789abcdef", PID: 42, Started: day, Uptime: 90.5,
		Store: "/var/lib/weave/weave.db", Ranges: prefixes("10.32.0.0/12", "fd00::/48"),
		Docker:    Docker{Error: "get /_ping of docker's API: connection refused"},
		Reconcile: &Reconcile{Ended: day, Took: 0.012, Actions: []string{"recreated bridge wv-aaaa10000000"}, Error: "bridge br-db: missing"},
		Warnings:  []string{"no firewall back end"},
	}
}

func newTown() *Server {
	tracker, names := town()
	return NewServer(Options{Tracker: tracker, Names: names, Status: fullStatus})
}

// ask sends a GET and returns status and body.
func ask(t testing.TB, h http.Handler, target string) (int, string) {
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
	for name, target := range map[string]string{
		"networks":  "/v1/networks",
		"endpoints": "/v1/endpoints",
		"live":      "/v1/endpoints?network=app&live=kernel",
		"status":    "/v1/status",
	} {
		t.Run(name, func(t *testing.T) {
			code, body := ask(t, newTown(), target)
			if code != http.StatusOK {
				t.Fatalf("status %d: %s", code, body)
			}
			golden(t, name, body)
		})
	}
	t.Run("empty", func(t *testing.T) {
		s := NewServer(Options{Tracker: &fakeTracker{}})
		var all strings.Builder
		for _, target := range []string{"/v1/networks", "/v1/endpoints", "/v1/endpoints?live=1"} {
			code, body := ask(t, s, target)
			fmt.Fprintf(&all, "%d %s", code, body)
		}
		if diff := cmp.Diff("200 []\n200 []\n200 []\n", all.String()); diff != "" {
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
	path := filepath.Join("testdata", name+".json")
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

func TestFilters(t *testing.T) {
	const web1, web2, made, onDB = "eeee1", "eeee2", "eeee3", "eeee4"
	tests := []struct {
		name, query string
		want        []string // the first five characters of the endpoints' ids
	}{
		{"none", "", []string{made, web1, web2, onDB}},
		{"network by name", "network=db", []string{onDB}},
		{"network by id", "network=" + id("aaaa2"), []string{onDB}},
		{"network by the beginning of its id", "network=aaaa2", []string{onDB}},
		{"either network", "network=db&network=app", []string{made, web1, web2, onDB}},
		{"the same network twice", "network=db&network=aaaa2", []string{onDB}},
		{"container by name", "container=web", []string{web1, onDB}},
		{"container by Docker's spelling of its name", "container=/web", []string{web1, onDB}},
		{"container by id", "container=" + id("cccc2"), []string{web2}},
		{"container by the beginning of its id", "container=cccc2", []string{web2}},
		{"a name goes before the beginning of an id", "container=cccc1", []string{web2}},
		{"the beginning of several ids", "container=cccc", []string{web1, web2, onDB}},
		{"too little of an id", "container=ccc", nil},
		{"either container", "container=web&container=cccc2", []string{web1, web2, onDB}},
		{"unknown container", "container=nobody", nil},
		{"unknown container beside a known one", "container=nobody&container=cccc2", []string{web2}},
		{"network and container", "network=db&container=web", []string{onDB}},
		{"container of another network", "network=db&container=cccc2", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, body := ask(t, newTown(), "/v1/endpoints?"+tt.query)
			if code != http.StatusOK {
				t.Fatalf("status %d: %s", code, body)
			}
			var list []Endpoint
			if err := json.Unmarshal([]byte(body), &list); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range list {
				got = append(got, e.ID[:5])
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		target string
		code   int
		want   string // the error
	}{
		{"/v1/endpoints?network=nowhere", 404, `parameter network: "nowhere": weave has no such network here`},
		{"/v1/endpoints?network=aaa", 404, `parameter network: "aaa": weave has no such network here`},
		{"/v1/endpoints?network=db&network=nowhere", 404, `parameter network: "nowhere": weave has no such network here`},
		{"/v1/endpoints?network=aaaa", 400, `parameter network: "aaaa": 2 networks begin so; want more of the id, or the name`},
		{"/v1/endpoints?network=", 400, `parameter network: "": want an id, the beginning of one or a name, 1 to 256 bytes`},
		{"/v1/endpoints?container=", 400, `parameter container: "": want an id, the beginning of one or a name, 1 to 256 bytes`},
		{"/v1/endpoints?container=" + strings.Repeat("x", 257), 400,
			`parameter container: "xxxxxxxxxxxxxxxxxxxx": want an id, the beginning of one or a name, 1 to 256 bytes`},
		{"/v1/endpoints?" + strings.Repeat("container=x&", 1001), 400, `parameter container: given 1001 times; want at most 1000`},
		{"/v1/endpoints?live=maybe", 400, `parameter live: ["maybe"]: want one of 1, kernel, nsproc`},
		{"/v1/endpoints?live=", 400, `parameter live: [""]: want one of 1, kernel, nsproc`},
		{"/v1/endpoints?live=1&live=1", 400, `parameter live: ["1" "1"]: want one of 1, kernel, nsproc`},
		{"/v1/endpoints?contianer=web", 400, `parameter "contianer": "web": unknown; want network, container, live`},
		{"/v1/endpoints?network=%zz", 400, `parameters "network=%zz": invalid URL escape "%zz"`},
		{"/v1/networks?network=db", 400, `parameter "network": "db": unknown; want no parameter`},
		{"/v1/status?x", 400, `parameter "x": "": unknown; want no parameter`},
		{"/v2/networks", 404, `path "/v2/networks": unknown; want /v1/networks, /v1/endpoints or /v1/status`},
		{"/", 404, `path "/": unknown; want /v1/networks, /v1/endpoints or /v1/status`},
	}
	for _, tt := range tests {
		t.Run(tt.want, func(t *testing.T) {
			code, body := ask(t, newTown(), tt.target)
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
		newTown().ServeHTTP(w, httptest.NewRequest(tt.method, PathNetworks, strings.NewReader(tt.body)))
		if w.Code != tt.want {
			t.Errorf("%s with body %q: status %d, want %d: %s", tt.method, tt.body, w.Code, tt.want, w.Body)
		}
		if allow := w.Header().Get("Allow"); (w.Code == 405) != (allow == "GET, HEAD") {
			t.Errorf("%s: status %d with Allow %q", tt.method, w.Code, allow)
		}
	}
}

func TestLiveAsksOnlyForWhatIsListed(t *testing.T) {
	for value, want := range map[string]driver.Source{"1": driver.Kernel, "kernel": driver.Kernel, "nsproc": driver.Nsproc} {
		tracker, names := town()
		s := NewServer(Options{Tracker: tracker, Names: names})
		if code, body := ask(t, s, "/v1/endpoints?network=app&container=web&live="+value); code != http.StatusOK {
			t.Fatalf("status %d: %s", code, body)
		}
		if tracker.source != want || !tracker.bound {
			t.Errorf("live=%s: asked %q, with a deadline %t; want %q, with one", value, tracker.source, tracker.bound, want)
		}
		if diff := cmp.Diff([]driver.EndpointID{driver.EndpointID(id("eeee1"))}, tracker.asked); diff != "" {
			t.Errorf("asked for (-want +got):\n%s", diff)
		}
	}
}

// TestNewName: what Docker has just named can be asked for, and is listed with its name; an old thing without a name makes
// no listing wait.
func TestNewName(t *testing.T) {
	_, _, o := web()
	for _, tt := range []struct {
		target  string
		created time.Time
		fresh   bool // names are read anew
		want    string
	}{
		{"/v1/endpoints", time.Now(), true, `"containerName":"web"`},
		{"/v1/endpoints", day, false, `"state":"up"`},
		{"/v1/networks", time.Now(), true, `"name":"app"`},
		{"/v1/networks", day, false, `"endpoints":1`},
		{"/v1/endpoints?network=app", day, true, `"networkName":"app"`},
		{"/v1/endpoints?container=web", day, true, `"containerName":"web"`},
		{"/v1/endpoints?network=none", day, true, `no such network here`},
	} {
		n, e, _ := web()
		n.Created, e.Created = tt.created, tt.created
		tracker := &fakeTracker{networks: []driver.Network{n}, endpoints: []driver.Endpoint{e}, observed: map[driver.EndpointID]driver.Observation{e.ID: o}}
		names := fakeNames{networks: map[string]string{}, containers: map[string][2]string{}}
		fresh := false
		names.refresh = func() {
			fresh = true
			names.networks[string(n.ID)] = "app"
			names.containers[string(e.ID)] = [2]string{id("cccc1"), "web"}
		}
		_, body := ask(t, NewServer(Options{Tracker: tracker, Names: names}), tt.target)
		if fresh != tt.fresh || !strings.Contains(body, tt.want) {
			t.Errorf("%s, created %v: read anew %t, want %t; answer %s, want %s", tt.target, tt.created, fresh, tt.fresh, body, tt.want)
		}
	}
}

// TestLiveDuringChange: what is only the trace of an endpoint on its way in or out is no drift.
func TestLiveDuringChange(t *testing.T) {
	_, up, _ := web()
	made := up
	made.State, made.Sandbox = driver.Created, ""
	tests := []struct {
		name          string
		before, after []driver.Endpoint
		want          string // the drift of each endpoint that is listed
	}{
		{"nothing changed", []driver.Endpoint{up}, []driver.Endpoint{up}, "[[container end missing in the container]]"},
		{"joined meanwhile", []driver.Endpoint{made}, []driver.Endpoint{up}, "[[]]"},
		{"left meanwhile", []driver.Endpoint{up}, []driver.Endpoint{made}, "[[]]"},
		{"deleted meanwhile", []driver.Endpoint{up}, nil, "[]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, e, o := web()
			o.Inside = nil
			tracker := &fakeTracker{networks: []driver.Network{n}, endpoints: tt.before, observed: map[driver.EndpointID]driver.Observation{e.ID: o}}
			tracker.meanwhile = func() { tracker.endpoints = tt.after }
			_, body := ask(t, NewServer(Options{Tracker: tracker}), "/v1/endpoints?live=1")
			var list []Endpoint
			if err := json.Unmarshal([]byte(body), &list); err != nil {
				t.Fatal(err)
			}
			got := [][]Drift{}
			for _, e := range list {
				got = append(got, e.Drift)
			}
			if text := fmt.Sprint(got); text != tt.want {
				t.Errorf("drift %s, want %s", text, tt.want)
			}
		})
	}
}

func BenchmarkEndpoints(b *testing.B) {
	n, e, o := web()
	tracker := &fakeTracker{networks: []driver.Network{n}, observed: map[driver.EndpointID]driver.Observation{}}
	names := fakeNames{networks: map[string]string{string(n.ID): "app"}, containers: map[string][2]string{}}
	for i := range 100 {
		e.ID = driver.EndpointID(id(fmt.Sprintf("%04x", i)))
		e.Addresses = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 32, 0, byte(i)}), 22)}
		tracker.endpoints = append(tracker.endpoints, e)
		tracker.observed[e.ID] = o
		names.containers[string(e.ID)] = [2]string{id(fmt.Sprintf("c%04x", i)), fmt.Sprintf("web-%d", i)}
	}
	s := NewServer(Options{Tracker: tracker, Names: names})
	for name, target := range map[string]string{"tracked": "/v1/endpoints", "live": "/v1/endpoints?live=1"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if code, body := ask(b, s, target); code != http.StatusOK {
					b.Fatal(body)
				}
			}
		})
	}
}
