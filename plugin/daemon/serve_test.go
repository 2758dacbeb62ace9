// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weaveplugin/weave/api"
)

// TestCallInFlightIsFinished: on SIGTERM no call is cut off, the background works until the last one is answered, and
// the state is closed after that.
func TestCallInFlightIsFinished(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	var order []string
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, what)
	}
	d := startDaemon(t, newDaemonConfig(t), opens(&Core{
		Docker: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			close(began)
			<-finish
			note("call answered")
		}),
		Run:   func(ctx context.Context) error { <-ctx.Done(); note("background ended"); return nil },
		Close: func() error { note("state closed"); return nil },
	}))
	socket := d.cfg.PluginSockets[0]
	answered := make(chan error, 1)
	go func() {
		status, body, err := call(socket, "NetworkDriver.DeleteNetwork", "{}")
		if err == nil && status != http.StatusOK {
			err = errors.New(body)
		}
		answered <- err
	}()
	<-began
	d.stop()
	eventually(t, "the sockets are gone", func() bool {
		_, plugin := os.Lstat(socket)
		_, listing := os.Lstat(d.cfg.APISocket)
		return errors.Is(plugin, os.ErrNotExist) && errors.Is(listing, os.ErrNotExist)
	})
	close(finish)
	if err := <-answered; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if err := d.ended(t); err != nil {
		t.Errorf("serve: %v", err)
	}
	if got := strings.Join(order, ", "); got != "call answered, background ended, state closed" {
		t.Errorf("order: %s", got)
	}
}

// TestStopEndsStreams: an answer that would last for ever ends when weave is to stop.
func TestStopEndsStreams(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	d := startDaemon(t, newDaemonConfig(t), opens(&Core{
		Docker: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			close(begun)
			<-ended
		}),
		EndStreams: func() { close(ended) },
	}))
	go func() { _, _, _ = call(d.cfg.PluginSockets[0], "stream", "") }() // how it ends is not looked at
	<-begun
	d.stop()
	if err := d.ended(t); err != nil {
		t.Error(err)
	}
}

func TestStopGivesUpOnAStuckCall(t *testing.T) {
	path := socketPath(t)
	began, finish := make(chan struct{}), make(chan struct{})
	s, err := newServer(t.Context(), path, forRoot, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(began)
		<-finish
	}), quiet())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	called := make(chan struct{})
	go func() {
		defer close(called)
		_, _, _ = call(path, "x", "")
	}()
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.stop(ctx); err == nil || !strings.Contains(err.Error(), "not finished") {
		t.Errorf("%v, want that requests are not finished", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	close(finish)
	<-called
}

// TestListensBeforeTheStateIsOpen: the handshake is answered at once, and calls wait.
func TestListensBeforeTheStateIsOpen(t *testing.T) {
	release := make(chan struct{})
	core := opens(&Core{Docker: answer("{}")})
	d := startDaemon(t, newDaemonConfig(t), testProgram(func(ctx context.Context, s Sockets) (*Core, error) {
		<-release
		return core.Open(ctx, s)
	}))
	status, body, err := call(d.cfg.PluginSockets[0], "NetworkDriver.GetCapabilities", "")
	if err != nil || status != http.StatusOK {
		t.Errorf("handshake: %d %s %v", status, body, err)
	}
	answered := make(chan int, 1)
	go func() {
		status, _, _ := call(d.cfg.PluginSockets[0], "NetworkDriver.DeleteNetwork", "{}")
		answered <- status
	}()
	close(release)
	if status := <-answered; status != http.StatusOK {
		t.Errorf("the call that waited: status %d", status)
	}
}

// TestAPISaysWhyThereIsNoAnswer: a client gets the reason as any other error of the API.
func TestAPISaysWhyThereIsNoAnswer(t *testing.T) {
	path := socketPath(t)
	client, g := api.NewClient(path), newGate()
	g.fail(errStopping)
	api := front{gate: g, protocol: testProgram(nil).API, log: quiet()}
	s, err := newServer(t.Context(), path, forRoot, api, quiet())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	if _, err := client.Status(t.Context()); err == nil || !strings.Contains(err.Error(), errStopping.Error()) {
		t.Errorf("%v, want %v", err, errStopping)
	}
	if err := errors.Join(s.stop(t.Context()), <-served); err != nil {
		t.Error(err)
	}
}

// TestAPITakesTheLongestQuery: a query with a thousand ids, as the API allows, is within the server's limits.
func TestAPITakesTheLongestQuery(t *testing.T) {
	path := socketPath(t)
	s, err := newServer(t.Context(), path, forRoot, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "[]")
	}), quiet())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	var q api.Query
	for i := range 1000 {
		q.Containers = append(q.Containers, fmt.Sprintf("%064x", i))
	}
	if _, err := api.NewClient(path).Endpoints(t.Context(), q); err != nil {
		t.Error(err)
	}
	if err := errors.Join(s.stop(t.Context()), <-served); err != nil {
		t.Error(err)
	}
}

// TestConnectionsAreBounded: a member of the API's group can't hold more than some connections, and none for long; the
// next client is answered when they are gone.
func TestConnectionsAreBounded(t *testing.T) {
	path := socketPath(t)
	s, err := newServer(t.Context(), path, forGroup(os.Getgid()), http.NotFoundHandler(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	if s.http.IdleTimeout != apiIdle {
		t.Errorf("idle connections are kept for %v, want %v", s.http.IdleTimeout, apiIdle)
	}
	var open, most atomic.Int32
	s.http.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			most.Store(max(most.Load(), open.Add(1)))
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	var held []net.Conn
	for range 10 * apiConnections {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	eventually(t, "as many connections as are allowed", func() bool { return open.Load() == apiConnections })
	if most.Load() > apiConnections {
		t.Errorf("%d connections at a time, want at most %d", most.Load(), apiConnections)
	}
	for _, conn := range held {
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	client := http.Client{Transport: api.UnixTransport(path)}
	resp, err := client.Get("http://weave/")
	if err != nil {
		t.Fatalf("no answer after the others have gone: %v", err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	if err := errors.Join(s.stop(t.Context()), <-served); err != nil {
		t.Error(err)
	}
}

// TestRequestsTellTheirUser: also where connections are counted.
func TestRequestsTellTheirUser(t *testing.T) {
	for name, a := range map[string]access{"Docker's": forRoot, "the API's": forGroup(os.Getgid())} {
		path := socketPath(t)
		var user string
		s, err := newServer(t.Context(), path, a, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			user = r.RemoteAddr
		}), quiet())
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.serve() }()
		client := http.Client{Transport: api.UnixTransport(path)}
		resp, err := client.Get("http://weave/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		client.CloseIdleConnections()
		if err := errors.Join(s.stop(t.Context()), <-served); err != nil {
			t.Error(err)
		}
		if want := fmt.Sprintf("uid %d", os.Getuid()); user != want {
			t.Errorf("%s socket: user %q, want %q", name, user, want)
		}
	}
}

// TestLostSocketIsNoticed: there is a warning if another program replaces weave's socket, as Weave Net does.
func TestLostSocketIsNoticed(t *testing.T) {
	path := socketPath(t)
	s, err := newServer(t.Context(), path, forRoot, http.NotFoundHandler(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	sockets := Sockets{unix: []*server{s}}
	if got := sockets.Warnings(); len(got) > 0 {
		t.Errorf("warnings: %q, want none", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s.restore(t.Context()) // it is the other's, and stays so
	if got := sockets.Warnings(); len(got) != 1 || !strings.Contains(got[0], path+" is not weave's socket any more") ||
		!strings.Contains(got[0], "another process serves it") {
		t.Errorf("warnings %q, want one of %s", got, path)
	}
	if err := s.stop(t.Context()); err != nil {
		t.Error(err)
	}
	if !answers(path) {
		t.Error("the other's socket is gone")
	}
}

// TestRemovedSocketIsMadeAgain: somebody removes a socket, or the directory that it is in.
func TestRemovedSocketIsMadeAgain(t *testing.T) {
	path := filepath.Join(filepath.Dir(socketPath(t)), "weave", "weave.sock")
	s, err := newServer(t.Context(), path, forRoot, http.NotFoundHandler(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	for _, removed := range []string{path, filepath.Dir(path), path} {
		if err := os.RemoveAll(removed); err != nil {
			t.Fatal(err)
		}
		if got := (Sockets{unix: []*server{s}}).Warnings(); len(got) != 1 {
			t.Errorf("%s removed: warnings %q, want one", removed, got)
		}
		s.restore(t.Context())
		if !answers(path) {
			t.Errorf("%s removed: the socket does not answer", removed)
		}
		if got := (Sockets{unix: []*server{s}}).Warnings(); len(got) != 0 {
			t.Errorf("made again: warnings %q, want none", got)
		}
	}
	if err := errors.Join(s.stop(t.Context()), <-served); err != nil {
		t.Error(err)
	}
	if answers(path) {
		t.Error("it is there after the end")
	}
}

func TestStopWhileStarting(t *testing.T) {
	opening := make(chan struct{})
	d := startDaemon(t, newDaemonConfig(t), testProgram(func(ctx context.Context, _ Sockets) (*Core, error) {
		close(opening)
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	<-opening
	d.stop()
	if err := d.ended(t); err != nil {
		t.Errorf("serve: %v, want a clean end", err)
	}
}

func TestBackgroundFailureEndsServe(t *testing.T) {
	broken := errors.New("netlink is gone")
	core := &Core{Run: func(context.Context) error { return broken }}
	err := Serve(t.Context(), newDaemonConfig(t), opens(core), quiet())
	if !errors.Is(err, broken) {
		t.Errorf("serve: %v, want %v", err, broken)
	}
}

func TestSecondInstanceIsRefused(t *testing.T) {
	d := startDaemon(t, newDaemonConfig(t), opens(&Core{}))
	opened := false
	second := testProgram(func(context.Context, Sockets) (*Core, error) {
		opened = true
		return nil, errors.New("opened")
	})

	// First on the same plugin socket; then on the same API socket only, which removes the new plugin socket again.
	err := Serve(t.Context(), d.cfg, second, quiet())
	if err == nil || !strings.Contains(err.Error(), d.cfg.PluginSockets[0]+": another process serves it") {
		t.Errorf("%v", err)
	}
	other := newDaemonConfig(t)
	other.APISocket = d.cfg.APISocket
	err = Serve(t.Context(), other, second, quiet())
	if err == nil || !strings.Contains(err.Error(), d.cfg.APISocket+": another process serves it") {
		t.Errorf("%v", err)
	}
	if left := entries(t, filepath.Dir(other.PluginSockets[0])); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	if opened || !answers(d.cfg.PluginSockets[0]) || !answers(d.cfg.APISocket) {
		t.Error("the first one was disturbed, or the state was opened")
	}
}
