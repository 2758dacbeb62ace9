// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/api"
)

// FuzzParseQuery: what is accepted survives being written and parsed again.
func FuzzParseQuery(f *testing.F) {
	for _, raw := range []string{
		"", "network=app&network=db&container=web", "live=1", "live=nsproc", "live", "network=", "container=%2Fweb",
		"network=app&live=x", "x=1", "a;b", "%zz",
	} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseQuery(raw)
		if err != nil {
			if !cmp.Equal(q, api.Query{}) {
				t.Errorf("%q: both %+v and error %v", raw, q, err)
			}
			return
		}
		again, err := parseQuery(q.Values().Encode())
		if err != nil {
			t.Fatalf("%q: accepted as %+v, then refused: %v", raw, q, err)
		}
		if diff := cmp.Diff(q, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q: parsed, written and parsed again (-first +second):\n%s", raw, diff)
		}
	})
}
