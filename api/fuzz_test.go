// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"testing"
)

// FuzzDecode: whatever answers at the socket, the client has an error or a value, and a refusal always has a reason.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		"[]", "null", "{}", `[{"addresses":["10.32.0.2/22"],"live":{"up":true}}]`, `[{"addresses":["x"]}]`,
		`{"error":"no"}`, "<html>",
	} {
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
