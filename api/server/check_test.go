// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/check"
)

// fakeChecker finds that what a test says fails, and keeps the questions.
type fakeChecker struct {
	fails func(check.Question) bool // nil: nothing does
	wait  func(context.Context)     // if set, called by each Check

	mu    sync.Mutex
	asked []check.Question
}

func (f *fakeChecker) Check(ctx context.Context, q check.Question) (r check.Result) {
	if f.wait != nil {
		f.wait(ctx)
	}
	f.mu.Lock()
	f.asked = append(f.asked, q)
	f.mu.Unlock()
	r.Layers = []api.Checked{{Layer: api.LayerRoute, Result: api.CheckOK, Evidence: "out of eth0"}}
	if f.fails != nil && f.fails(q) {
		r.Failed, r.Layers[0].Result, r.Layers[0].Advice = api.LayerRoute, api.CheckFailed, "mend it"
	}
	return r
}

func checkServer(c *fakeChecker, of Cluster) *Server {
	host, names := twoNetworks()
	return New(Options{Tracker: host, Inspector: host, Names: names, Cluster: of, Checker: c})
}

func post(s *Server, target string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, target, http.NoBody)
	r.RemoteAddr = "uid 0"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// TestQuestions: what is asked for is found by name, id, or address, on this host and on others.
func TestQuestions(t *testing.T) {
	addrs := func(texts ...string) (all []netip.Addr) {
		for _, text := range texts {
			all = append(all, netip.MustParseAddr(text))
		}
		return all
	}
	ofWeb := addrs("10.32.0.2", "fd00:1::2", "10.32.8.2")
	type question struct {
		From, To, Address, Host, Name string
		Port                          uint16
		Own                           []netip.Addr
	}
	for query, want := range map[string]question{
		"from=cccc1&to=web": {From: "cccc1", To: "web", Address: "10.32.0.2", Name: "web", Own: ofWeb},
		"from=cccc1&to=/web&port=80": {
			From: "cccc1", To: "web", Address: "10.32.0.2", Name: "web", Own: ofWeb, Port: 80,
		},
		"from=cccc1&to=" + id("cccc1"):  {From: "cccc1", To: "web", Address: "10.32.0.2", Own: ofWeb},
		"from=cccc1&to=eeee1":           {From: "cccc1", To: "web", Address: "10.32.0.2", Own: ofWeb[:2]},
		"from=web&to=::ffff:192.0.2.1":  {From: "web", Address: "192.0.2.1"},
		"from=web&to=10.32.8.9&port=80": {From: "web", Address: "10.32.8.9", Port: 80},
		"from=cccc1&to=10.32.0.2":       {From: "cccc1", To: "web", Address: "10.32.0.2"},
		"from=web&to=10.32.0.11":        {From: "web", Address: "10.32.0.11", Host: "host2"},
		"from=web&to=cccc2": {
			From: "web", Address: "10.32.0.11", Host: "host2", Name: "cccc2", Own: addrs("10.32.0.11"),
		},
	} {
		c := &fakeChecker{}
		if w := post(checkServer(c, twoHosts{}), "/v1/check?"+query); w.Code != http.StatusOK || len(c.asked) != 1 {
			t.Errorf("%s: status %d: %s", query, w.Code, w.Body)
			continue
		}
		q := c.asked[0]
		got := question{
			From: q.From.Name, Address: q.Address.String(), Host: q.Host, Name: q.Name, Port: q.Port, Own: q.Own,
		}
		if q.To != nil {
			got.To = q.To.Name
		}
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", query, diff)
		}
	}
}

// TestRefusedChecks: what can't be meant is refused, and nothing is checked.
func TestRefusedChecks(t *testing.T) {
	for target, want := range map[string]string{
		"/v1/check?from=web":                        "400 parameter to: given 0 times; want one",
		"/v1/check?from=web&to=a&to=b":              "400 parameter to: given 2 times; want one",
		"/v1/check?from=web&from=web&to=a":          "400 parameter from: given 2 times; want one",
		"/v1/check?from=web&to=cccc1&port=1&port=2": "400 parameter port: ",
		"/v1/check?from=web&to=cccc1&port=0":        "400 parameter port: ",
		"/v1/check?from=nobody&to=web":              "404 from ",
		"/v1/check?from=web&to=nobody":              "404 to ",
		"/v1/check?from=eeee4&to=cccc1":             "409 web and cccc1 are on no network together",
		"/v1/check?from=web&to=fe80::1%25eth0":      "400 parameter to: fe80::1%eth0: want ",
		"/v1/check?from=web&to=fe80::1":             "400 parameter to: fe80::1: want ",
		"/v1/check?from=web&to=127.0.0.1":           "400 parameter to: 127.0.0.1: want ",
		"/v1/check?from=web&to=0.0.0.0":             "400 parameter to: 0.0.0.0: want ",
		"/v1/check?from=web&to=224.0.0.1":           "400 parameter to: 224.0.0.1: want ",
		"/v1/check/all?network=nowhere":             "404 parameter network: ",
		"/v1/check/all?network=":                    "400 parameter network: ",
		"/v1/check/all?port=70000":                  "400 parameter port: ",
		"/v1/check/all?from=web":                    "400 parameter ",
	} {
		c := &fakeChecker{}
		w := post(checkServer(c, nil), target)
		var refusal api.Error
		if err := json.Unmarshal(w.Body.Bytes(), &refusal); err != nil {
			t.Errorf("%s: %v: %s", target, err, w.Body)
		}
		if got := fmt.Sprintf("%d %s", w.Code, refusal.Message); !strings.HasPrefix(got, want) || len(c.asked) > 0 {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
}

// TestGoneMeanwhile: a container that goes while it is checked is told as gone, not as one that fails.
func TestGoneMeanwhile(t *testing.T) {
	for name, goes := range map[string]func(*fakeHost){
		"gone":          func(h *fakeHost) { h.endpoints = h.endpoints[:1] },
		"started again": func(h *fakeHost) { h.endpoints[0].Sandbox = "/var/run/docker/netns/other" },
	} {
		host := crowd(2)
		s := New(Options{Tracker: host, Inspector: host, Checker: &fakeChecker{
			wait: func(context.Context) { goes(host) },
		}})
		w := post(s, fmt.Sprintf("/v1/check?from=%s&to=%s", host.endpoints[0].ID, host.endpoints[1].ID))
		if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "is gone by now") {
			t.Errorf("%s: status %d: %s, want that it is gone", name, w.Code, w.Body)
		}
	}
}

// crowd is a host with so many running endpoints on one network.
func crowd(n int) *fakeHost {
	app, web, _ := web()
	f := &fakeHost{networks: []driver.Network{app}}
	for i := range n {
		e := web
		e.ID = driver.EndpointID(id(fmt.Sprintf("e%04d", i)))
		e.Addresses = prefixes(fmt.Sprintf("10.32.%d.%d/22", i/200, 2+i%200))
		f.endpoints = append(f.endpoints, e)
	}
	return f
}

func linesOf(t *testing.T, w *httptest.ResponseRecorder) (pairs []api.PairCheck, end *api.CheckSummary) {
	t.Helper()
	for line := range strings.Lines(w.Body.String()) {
		var l api.CheckLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if l.Pair != nil {
			pairs = append(pairs, *l.Pair)
		}
		end = l.Summary
	}
	return pairs, end
}

// TestMatrix: each two running endpoints that share a network are checked, both ways.
func TestMatrix(t *testing.T) {
	c := &fakeChecker{fails: func(q check.Question) bool { return q.To.Name == "web" }}
	w := post(checkServer(c, twoHosts{}), "/v1/check/all?port=80")
	pairs, end := linesOf(t, w)
	if w.Code != http.StatusOK || end == nil || *end != (api.CheckSummary{Checked: 2, Failed: 1}) {
		t.Fatalf("status %d, summary %+v: %s", w.Code, end, w.Body)
	}
	var got []string
	for _, p := range pairs {
		got = append(got, fmt.Sprintf("%s: %s to %s: %s %q", p.Network, p.From, p.To, p.Check.Question, p.Check.Failed))
	}
	want := []string{
		`app: web to cccc1: from web to cccc1 (10.32.0.10), TCP port 80 ""`,
		`app: cccc1 to web: from cccc1 to web (10.32.0.2), TCP port 80 "route"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	i := slices.IndexFunc(c.asked, func(q check.Question) bool { return q.To.Name == "web" })
	if q := c.asked[i]; q.Name != "web" || len(q.Own) != 3 || q.Port != 80 {
		t.Errorf("asked %+v, want the name, with all addresses that it may stand for", q)
	}
}

// TestMatrixIsBounded: of many pairs some are left out, none of the containers, and the answer says how many.
func TestMatrixIsBounded(t *testing.T) {
	const n = 50
	host := crowd(n)
	c := &fakeChecker{}
	w := post(New(Options{Tracker: host, Inspector: host, Checker: c}), "/v1/check/all")
	pairs, end := linesOf(t, w)
	if end == nil || *end != (api.CheckSummary{Checked: api.MaxPairs, LeftOut: n*(n-1) - api.MaxPairs}) ||
		len(pairs) != api.MaxPairs {
		t.Fatalf("%d pairs, summary %+v", len(pairs), end)
	}
	from, to, both := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range pairs {
		from[p.From], to[p.To], both[p.From+p.To] = true, true, true
	}
	if len(from) != n || len(to) != n || len(both) != len(pairs) {
		t.Errorf("%d senders, %d receivers, %d different pairs", len(from), len(to), len(both))
	}
}

// TestMatrixEnds: the work ends when the client leaves or weave stops, and there is one at a time.
func TestMatrixEnds(t *testing.T) {
	for name, end := range map[string]func(*Server, context.CancelFunc){
		"client": func(_ *Server, leave context.CancelFunc) { leave() },
		"stop":   func(s *Server, _ context.CancelFunc) { s.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			host := crowd(50)
			begun := make(chan struct{}, api.MaxPairs)
			c := &fakeChecker{wait: func(ctx context.Context) {
				begun <- struct{}{}
				<-ctx.Done()
			}}
			s := New(Options{Tracker: host, Inspector: host, Checker: c})
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			ended := make(chan struct{})
			w := httptest.NewRecorder()
			go func() {
				defer close(ended)
				r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/check/all", http.NoBody)
				r.RemoteAddr = "uid 0"
				s.ServeHTTP(w, r)
			}()
			<-begun
			if second := post(s, "/v1/check/all"); second.Code != http.StatusServiceUnavailable {
				t.Errorf("a second one: status %d: %s", second.Code, second.Body)
			}
			end(s, leave)
			<-ended
			if len(c.asked) > 2*checksAtOnce {
				t.Errorf("%d pairs were checked", len(c.asked))
			}
			if _, end := linesOf(t, w); end != nil {
				t.Errorf("the answer has an end: %s", w.Body)
			}
		})
	}
}
