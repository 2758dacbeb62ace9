// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"net/http"
	"testing"
)

// TestCheckAll: each pair is handed on, and the summary returned; an answer that has no end is an error.
func TestCheckAll(t *testing.T) {
	const pair = `{"pair":{"network":"app","from":"web","to":"db","check":{"question":"?","layers":[]}}}` + "\n"
	const end = `{"summary":{"checked":2,"failed":0,"leftOut":1}}` + "\n"
	full := errors.New("no room for more")
	for name, tc := range map[string]struct {
		answer string
		found  error // what the caller says to a pair
		pairs  int
		err    error
	}{
		"whole":           {pair + pair + end, nil, 2, nil},
		"cut off":         {pair + pair, nil, 2, errCutOff},
		"cut off halfway": {pair + pair[:20], nil, 1, errCutOff},
		"nothing":         {"", nil, 0, errCutOff},
		"enough":          {pair + pair + end, full, 1, full},
	} {
		t.Run(name, func(t *testing.T) {
			var requested string
			c := NewClient(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requested = r.Method + " " + r.URL.String()
				_, _ = w.Write([]byte(tc.answer)) // what reached the client is what the test looks at
			})))
			pairs := 0
			s, err := c.CheckAll(t.Context(), []string{"app", "db"}, 80, func(p PairCheck) error {
				if pairs++; p.From != "web" || p.Check.Question != "?" {
					t.Errorf("got %+v", p)
				}
				return tc.found
			})
			whole := CheckSummary{Checked: 2, LeftOut: 1}
			if !errors.Is(err, tc.err) || pairs != tc.pairs || err == nil && s != whole {
				t.Errorf("%d pairs, %+v, error %v, want %d, %v", pairs, s, err, tc.pairs, tc.err)
			}
			if want := "POST /v1/check/all?network=app&network=db&port=80"; requested != want {
				t.Errorf("requested %q, want %q", requested, want)
			}
		})
	}
}

// TestCheckAllEnds: it ends with its context, and a refusal is an error of the server's.
func TestCheckAllEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := NewClient(serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})))
	if _, err := c.CheckAll(ctx, nil, 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
	c = NewClient(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"error":"only root"}`))
	})))
	_, err := c.CheckAll(t.Context(), nil, 0, nil)
	if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Code != http.StatusForbidden {
		t.Errorf("error %v, want the refusal", err)
	}
}
