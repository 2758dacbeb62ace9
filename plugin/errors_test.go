// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/plugin/daemon"
)

// TestErrorsHaveTheSocketsForm: whether the core panics or does not open, each socket answers with the error object
// that is documented for it.
func TestErrorsHaveTheSocketsForm(t *testing.T) {
	panics := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a defect") })
	panicking := &daemon.Core{
		Docker: panics,
		API:    panics,
		Run:    func(ctx context.Context) error { <-ctx.Done(); return nil },
		Close:  func() error { return nil },
	}
	const advice = ": a defect in weave: a defect; please report it with weave's log"
	for _, tt := range []struct {
		name    string
		open    func(context.Context, daemon.Sockets) (*daemon.Core, error)
		docker  string // the text of the errors
		api     string
		apiCode int // Docker always gets 500
	}{
		{
			"panic", func(context.Context, daemon.Sockets) (*daemon.Core, error) { return panicking, nil },
			"/NetworkDriver.Leave" + advice, api.PathStatus + advice, http.StatusInternalServerError,
		},
		{
			"no core", func(context.Context, daemon.Sockets) (*daemon.Core, error) {
				return nil, errors.New("state is damaged")
			},
			"state is damaged", "state is damaged", http.StatusServiceUnavailable,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := newConfig(t)
			cfg.Managed = true // which stays when the core does not open
			program := newProgram(cfg, quiet())
			program.Open = tt.open
			startProgram(t, cfg, program)
			checkAnswer(t, cfg.PluginSockets[0], http.MethodPost, "/NetworkDriver.Leave",
				http.StatusInternalServerError, "application/vnd.docker.plugins.v1.1+json",
				map[string]string{"Err": tt.docker, "Error": tt.docker})
			checkAnswer(t, cfg.APISocket, http.MethodGet, api.PathStatus,
				tt.apiCode, "application/json", map[string]string{"error": tt.api})
		})
	}
}

// checkAnswer fails t unless the answer to a request has this status, content type and JSON object.
func checkAnswer(t *testing.T, socket, method, path string, status int, contentType string, want map[string]string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://weave"+path, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	transport := api.UnixTransport(socket)
	transport.DisableKeepAlives = true
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != status || got != contentType {
		t.Errorf("%s: status %d, %s; want %d, %s", path, resp.StatusCode, got, status, contentType)
	}
	var got map[string]string
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
