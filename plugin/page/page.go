// SPDX-License-Identifier: Apache-2.0

// Package page serves weave's web page and metrics to whoever can connect: files that are part of the binary, and the
// part of the API that they read. It knows nobody by a password, so it answers no page of another origin.
//
// It runs in the host's network namespace.
package page

import (
	"net/http"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/api/server"
)

// policy is the Content-Security-Policy of everything but metrics: scripts and styles come from here alone, and nothing
// is loaded from elsewhere or sent there. The hash is that of the style element that Cytoscape would insert, and which
// therefore stands in the page.
const policy = "default-src 'none'; script-src 'self'; " +
	"style-src 'self' 'sha256-pgvDUBa4IjFA2yuSJ2cqcyxmNYJMborsd0ORcRv9vw8='; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// headers are those of everything but metrics.
var headers = map[string]string{
	"Content-Security-Policy":      policy,
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
}

// New returns a handler for the page. Public is the part of the API that anybody may use who can connect. Metrics are
// for Prometheus, which may ask by any name that the host has.
func New(public, metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	for path, f := range load() {
		mux.Handle("GET "+path, f)
	}
	mux.Handle("GET "+api.PathMetrics, metrics)
	mux.Handle("/v1/", onlyScripts(public))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != api.PathMetrics {
			for name, value := range headers {
				w.Header().Set(name, value)
			}
			if why := foreign(r); why != "" {
				refuse(w, why)
				return
			}
		}
		mux.ServeHTTP(w, r)
	})
}

// refuse answers with why a request is not served.
func refuse(w http.ResponseWriter, why string) {
	server.Refuse(w, &api.Error{Code: http.StatusForbidden, Message: why})
}
