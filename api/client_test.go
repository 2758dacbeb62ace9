// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// serve answers with h at a new socket until the test ends, and returns the socket's path.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "weave.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	server.Start()
	t.Cleanup(server.Close)
	return socket
}

// TestClientReadsRecordedAnswers: the client decodes all that is in the answers in testdata. The server's tests compare
// what it answers with the same files.
func TestClientReadsRecordedAnswers(t *testing.T) {
	for name, tt := range map[string]struct {
		url  string
		read func(context.Context, *Client) (any, error)
	}{
		"networks": {"/v1/networks", func(ctx context.Context, c *Client) (any, error) { return c.Networks(ctx) }},
		"endpoints": {"/v1/endpoints", func(ctx context.Context, c *Client) (any, error) {
			return c.Endpoints(ctx, Query{})
		}},
		"live": {"/v1/endpoints?container=web&container=%2Fdb&live=kernel&network=app",
			func(ctx context.Context, c *Client) (any, error) {
				q := Query{Networks: []string{"app"}, Containers: []string{"web", "/db"}, Live: Kernel}
				return c.Endpoints(ctx, q)
			}},
		"traffic": {"/v1/traffic", func(ctx context.Context, c *Client) (any, error) { return c.Traffic(ctx) }},
		"hosts":   {"/v1/hosts", func(ctx context.Context, c *Client) (any, error) { return c.Hosts(ctx) }},
		"status":  {"/v1/status", func(ctx context.Context, c *Client) (any, error) { return c.Status(ctx) }},
	} {
		t.Run(name, func(t *testing.T) {
			recorded, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			var requested string
			c := NewClient(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requested = r.Method + " " + r.URL.String()
				_, _ = w.Write(recorded) // what reached the client is what the test looks at
			})))
			got, err := tt.read(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			if want := "GET " + tt.url; requested != want {
				t.Errorf("requested %q, want %q", requested, want)
			}
			again, err := json.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(unmarshal(t, recorded), unmarshal(t, again)); diff != "" {
				t.Errorf("answer, decoded and encoded again (-recorded +again):\n%s", diff)
			}
		})
	}
}

func unmarshal(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestClientReturnsRefusals(t *testing.T) {
	c := NewClient(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error":"weave has no such network here"}`)) // what reached the client is looked at
	})))
	_, err := c.Endpoints(t.Context(), Query{Networks: []string{"nowhere"}})
	want := &Error{Code: http.StatusNotFound, Message: "weave has no such network here"}
	if refusal, ok := errors.AsType[*Error](err); !ok || *refusal != *want || err.Error() != want.Message {
		t.Errorf("got %#v, want %#v", err, want)
	}
}

// TestEarlierServer: a weave that was not restarted yet after an upgrade may know no clusters.
func TestEarlierServer(t *testing.T) {
	c := NewClient(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error":"there is no /v1/cluster"}`)) // what reached the client is looked at
	})))
	if found, err := c.Cluster(t.Context()); found != nil || err != nil {
		t.Errorf("%+v and error %v, want that it is in no cluster", found, err)
	}
	if _, err := c.Status(t.Context()); err == nil {
		t.Error("no error for a status that is not there")
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	answer := func(code int, body string) func(*testing.T) string {
		return func(t *testing.T) string {
			return serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(code)
				_, _ = w.Write([]byte(body)) // what reached the client is what the test looks at
			}))
		}
	}
	tests := []struct {
		name   string
		socket func(*testing.T) string
		want   []string // parts of the error
	}{
		{"no socket", func(t *testing.T) string { return filepath.Join(t.TempDir(), "none.sock") },
			[]string{"weave is not running", "none.sock", "docker plugin ls", "--socket", "WEAVE_SOCKET"}},
		{"nobody listens", func(t *testing.T) string {
			socket := filepath.Join(t.TempDir(), "dead.sock")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return socket
		}, []string{"weave is not running", "nobody listens", "dead.sock", "docker plugin enable"}},
		{"not JSON", answer(200, "<html>"), []string{"is not one of weave's", "same version"}},
		{"another JSON", answer(200, `{"networks":1}`), []string{"is not one of weave's"}},
		{"nothing", answer(200, ""), []string{"is not one of weave's"}},
		{"refusal that is not JSON", answer(502, "bad gateway"), []string{"is not one of weave's", "status 502"}},
		{"refusal without a reason", answer(500, "{}"), []string{"is not one of weave's", "status 500 without"}},
		{"refusal", answer(503, `{"error":"weave is starting"}`), []string{"weave is starting"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewClient(tt.socket(t)).Networks(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q lacks %q", err, part)
				}
			}
		})
	}
}

func TestContextEnds(t *testing.T) {
	released := make(chan struct{})
	socket := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-released }))
	defer close(released)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := NewClient(socket).Status(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("server that hangs: %v, want one that says so", err)
	}

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := NewClient(socket).Status(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestPermissionDeniedIsExplained(t *testing.T) {
	denied := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", os.ErrPermission)}
	err := NewClient("/run/weave/weave.sock").explain(denied)
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "run this as root") {
		t.Errorf("permission denied: %v", err)
	}
}
