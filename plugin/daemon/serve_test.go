package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/plugin/remote"
)

// running is a daemon under test.
type running struct {
	cfg  Config
	stop context.CancelFunc
	done chan error
}

// newDaemonConfig has all paths in a directory of the test's own, and no Docker.
func newDaemonConfig(t *testing.T) Config {
	t.Helper()
	path := socketPath(t)
	dir := filepath.Dir(filepath.Dir(path))
	cfg, err := parseConfig(t, []string{"--plugin-socket=" + path, "--api-socket=" + filepath.Join(dir, "api", "weave.sock"),
		"--state=" + filepath.Join(dir, "weave.db"), "--runtime-dir=" + filepath.Join(dir, "api"), "--docker-socket=none"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// startDaemon runs p until the test ends and waits until it listens.
func startDaemon(t *testing.T, cfg Config, p Program) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	d := &running{cfg: cfg, stop: stop, done: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.done <- Serve(ctx, cfg, p, quiet())
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	eventually(t, "serve listens", func() bool { return answers(cfg.PluginSockets[0]) && answers(cfg.APISocket) })
	return d
}

// eventually polls for up to 30 s.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// ended waits for serve to return.
func (d *running) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-d.done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("serve does not return")
		return nil
	}
}

// call makes a call over the socket and returns status and body.
func call(path, name, body string) (int, string, error) {
	transport := api.UnixTransport(path)
	transport.DisableKeepAlives = true
	resp, err := (&http.Client{Transport: transport}).Post("http://plugin/"+name, "", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// quiet returns a log that nobody reads.
func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}

// opens returns a program whose core is c, ready at once. What c lacks does nothing.
func opens(c *Core) Program {
	return testProgram(func(context.Context, Sockets) (*Core, error) {
		if c.Run == nil {
			c.Run = func(ctx context.Context) error { <-ctx.Done(); return nil }
		}
		if c.Close == nil {
			c.Close = func() error { return nil }
		}
		return c, nil
	})
}

// testProgram returns a program with weave's own protocols.
func testProgram(open func(context.Context, Sockets) (*Core, error)) Program {
	return Program{
		Open:   open,
		Docker: Protocol{Handshake: remote.NewHandshake("local", quiet()), Refuse: remote.Refuse},
		API: Protocol{Refuse: func(w http.ResponseWriter, status int, err error) {
			api.Refuse(w, &api.Error{Code: status, Message: err.Error()})
		}},
	}
}

// answer is a handler that answers with text.
func answer(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })
}

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

// TestListensBeforeTheStateIsOpen: Docker gets its handshake at once, and calls wait.
func TestListensBeforeTheStateIsOpen(t *testing.T) {
	release := make(chan struct{})
	core := opens(&Core{Docker: answer("{}")})
	d := startDaemon(t, newDaemonConfig(t), testProgram(func(ctx context.Context, s Sockets) (*Core, error) {
		<-release
		return core.Open(ctx, s)
	}))
	if status, body, err := call(d.cfg.PluginSockets[0], "NetworkDriver.GetCapabilities", ""); err != nil || status != http.StatusOK {
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

// TestAPISaysWhyThereIsNoAnswer: a client gets the reason as it gets any error of the API.
func TestAPISaysWhyThereIsNoAnswer(t *testing.T) {
	path := socketPath(t)
	g := newGate()
	g.fail(errStopping)
	s, err := newServer(t.Context(), path, forRoot, front{gate: g, protocol: testProgram(nil).API, log: quiet()}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	if _, err := api.NewClient(path).Status(t.Context()); err == nil || !strings.Contains(err.Error(), errStopping.Error()) {
		t.Errorf("%v, want %v", err, errStopping)
	}
	if err := errors.Join(s.stop(t.Context()), <-served); err != nil {
		t.Error(err)
	}
}

// TestAPITakesTheLongestQuestion: what the API allows, a thousand ids, gets through the server's limits.
func TestAPITakesTheLongestQuestion(t *testing.T) {
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

// A program that takes weave's place without asking, as Weave Net does, is noticed.
func TestLostSocketIsNoticed(t *testing.T) {
	path := socketPath(t)
	s, err := newServer(t.Context(), path, forRoot, http.NotFoundHandler(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	sockets := Sockets{s}
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
	if got := sockets.Warnings(); len(got) != 1 || !strings.Contains(got[0], path+" is not weave's socket any more") {
		t.Errorf("warnings %q, want one of %s", got, path)
	}
	if err := s.stop(t.Context()); err != nil {
		t.Error(err)
	}
	if !answers(path) {
		t.Error("the other's socket is gone")
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
	err := Serve(t.Context(), newDaemonConfig(t), opens(&Core{Run: func(context.Context) error { return broken }}), quiet())
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

	// On the same plugin socket, then only on the same API socket: then its own plugin socket goes again.
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
