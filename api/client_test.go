package api

import (
	"context"
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
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/driver"
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

func TestClientGetsWhatTheServerTells(t *testing.T) {
	tracker, names := town()
	c := NewClient(serve(t, NewServer(Options{Tracker: tracker, Names: names, Status: fullStatus})))
	ctx := t.Context()
	prefixes := cmpopts.EquateComparable(tracker.networks[1].Pools[0].Subnet, tracker.networks[1].Pools[0].Gateway)

	networks, err := c.Networks(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(networks) != 2 || networks[0].Name != "app" || networks[0].Subnets[1].Gateway.String() != "fd00:1::1" {
		t.Errorf("networks %+v: want app with its gateway, then db", networks)
	}

	endpoints, err := c.Endpoints(ctx, Query{Networks: []string{"app"}, Containers: []string{"web"}, Live: driver.Nsproc})
	if err != nil {
		t.Fatal(err)
	}
	n, e, o := web()
	want := []Endpoint{{
		ID: string(e.ID), NetworkID: string(n.ID), NetworkName: "app", ContainerID: id("cccc1"), ContainerName: "web",
		MAC: e.MAC, Addresses: e.Addresses, Bridge: n.Bridge, HostEnd: e.HostEnd, Sandbox: e.Sandbox, State: e.State, Created: e.Created,
		Live:  &Live{Source: driver.Kernel, Bridge: n.Bridge, Name: "eth0", MAC: e.MAC, Addresses: o.Inside.Addresses, Up: true},
		Drift: []Drift{},
	}}
	if diff := cmp.Diff(want, endpoints, prefixes); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	if tracker.source != driver.Nsproc {
		t.Errorf("server asked %q, want nsproc", tracker.source)
	}

	status, err := c.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	counted := fullStatus(ctx)
	counted.Networks, counted.Endpoints = 2, EndpointCounts{Created: 1, Joined: 1, Up: 2}
	if diff := cmp.Diff(counted, status, prefixes); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}

	_, err = c.Endpoints(ctx, Query{Networks: []string{"nowhere"}})
	refusal, ok := errors.AsType[*Error](err)
	if !ok || refusal.Code != http.StatusNotFound || !strings.Contains(refusal.Message, "nowhere") {
		t.Errorf("unknown network: %v, want an *Error of status 404 that names it", err)
	}
}

func TestClientTellsWhatToDo(t *testing.T) {
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
			l.Close()
			return socket
		}, []string{"weave is not running", "nobody listens", "dead.sock", "docker plugin enable"}},
		{"not JSON", answer(200, "<html>"), []string{"is not one of weave's", "same version"}},
		{"another JSON", answer(200, `{"networks":1}`), []string{"is not one of weave's"}},
		{"nothing", answer(200, ""), []string{"is not one of weave's"}},
		{"refusal that is not JSON", answer(502, "bad gateway"), []string{"is not one of weave's", "status 502"}},
		{"refusal without a reason", answer(500, "{}"), []string{"is not one of weave's", "status 500 without a reason"}},
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

func TestClientGivesUp(t *testing.T) {
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
	err := NewClient("/run/weave/weave.sock").explain(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", os.ErrPermission)})
	if !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "run this as root") {
		t.Errorf("permission denied: %v", err)
	}
}
