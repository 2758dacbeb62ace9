package api

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzParseQuery: what is accepted survives being written and read again.
func FuzzParseQuery(f *testing.F) {
	for _, raw := range []string{"", "network=app&network=db&container=web", "live=1", "live=nsproc", "live", "network=", "container=%2Fweb", "network=app&live=x", "x=1", "a;b", "%zz"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			if !cmp.Equal(q, Query{}) {
				t.Errorf("%q: both %+v and error %v", raw, q, err)
			}
			return
		}
		again, err := parseQuery(q.values().Encode())
		if err != nil {
			t.Fatalf("%q: accepted as %+v, then refused: %v", raw, q, err)
		}
		if diff := cmp.Diff(q, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q: read, written and read again (-first +second):\n%s", raw, diff)
		}
	})
}

// FuzzDecode: whatever answers at the socket, the client has an error or a value, and a refusal always has a reason.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{"[]", "null", "{}", `[{"addresses":["10.32.0.2/22"],"live":{"up":true}}]`, `[{"addresses":["x"]}]`, `{"error":"no"}`, "<html>"} {
		f.Add(200, []byte(body))
		f.Add(400, []byte(body))
	}
	f.Fuzz(func(t *testing.T, code int, body []byte) {
		var endpoints []Endpoint
		var status Status
		for _, v := range []any{&endpoints, &status} {
			err := decode(code, body, v)
			if code != 200 && err == nil {
				t.Errorf("status %d is no error", code)
			}
			if refusal, ok := errors.AsType[*Error](err); ok && (refusal.Message == "" || refusal.Code != code) {
				t.Errorf("refusal %+v of status %d", refusal, code)
			}
		}
	})
}
