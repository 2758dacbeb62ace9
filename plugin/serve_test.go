package main

import (
	"bytes"
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
	"go.etcd.io/bbolt"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/store"
)

// daemon is a serve under test.
type daemon struct {
	cfg  config
	stop context.CancelFunc
	done chan error
}

// newDaemonConfig has all paths in a directory of the test's own, and no Docker.
func newDaemonConfig(t *testing.T) config {
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

// startDaemon runs serve until the test ends and waits until it listens.
func startDaemon(t *testing.T, cfg config, open opener) *daemon {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	d := &daemon{cfg: cfg, stop: stop, done: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.done <- serve(ctx, cfg, quiet(), open)
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
func (d *daemon) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-d.done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("serve does not return")
		return nil
	}
}

// client speaks HTTP to a Unix socket.
func client(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

// call makes a call over the socket and returns status and body.
func call(path, name, body string) (int, string, error) {
	resp, err := client(path).Post("http://plugin/"+name, "", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// withCore is an opener that has c ready.
func withCore(c *core) opener {
	if c.run == nil {
		c.run = func(ctx context.Context) error { <-ctx.Done(); return nil }
	}
	if c.close == nil {
		c.close = func() error { return nil }
	}
	return func(context.Context, config, *logrus.Entry) (*core, error) { return c, nil }
}

const deleteNetwork = `{"NetworkID":"` + networkID + `"}`

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
	fake := &fakeBackend{hook: func(context.Context, string) error {
		close(began)
		<-finish
		note("call answered")
		return nil
	}}
	d := startDaemon(t, newDaemonConfig(t), withCore(&core{
		backend: fake,
		run:     func(ctx context.Context) error { <-ctx.Done(); note("background ended"); return nil },
		close:   func() error { note("state closed"); return nil },
	}))
	socket := d.cfg.PluginSockets[0]
	answered := make(chan error, 1)
	go func() {
		status, body, err := call(socket, "NetworkDriver.DeleteNetwork", deleteNetwork)
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

// TestListensBeforeTheStateIsOpen: an Engine gets its handshake at once, and calls wait.
func TestListensBeforeTheStateIsOpen(t *testing.T) {
	release := make(chan struct{})
	d := startDaemon(t, newDaemonConfig(t), func(ctx context.Context, cfg config, log *logrus.Entry) (*core, error) {
		<-release
		return withCore(&core{backend: &fakeBackend{}})(ctx, cfg, log)
	})
	if status, body, err := call(d.cfg.PluginSockets[0], "NetworkDriver.GetCapabilities", ""); err != nil || status != http.StatusOK {
		t.Errorf("handshake: %d %s %v", status, body, err)
	}
	answered := make(chan int, 1)
	go func() {
		status, _, _ := call(d.cfg.PluginSockets[0], "NetworkDriver.DeleteNetwork", deleteNetwork)
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
	s, err := newServer(t.Context(), path, forRoot, behind(g), quiet())
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
func TestTakenSocketIsNoticed(t *testing.T) {
	path := socketPath(t)
	s, err := newServer(t.Context(), path, forRoot, http.NotFoundHandler(), quiet())
	if err != nil {
		t.Fatal(err)
	}
	servers := []*server{s}
	if got := taken(servers); len(got) > 0 {
		t.Errorf("taken: %q, want none", got)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var status api.Status
	tellTaken(&status, taken(servers))
	if len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], path+" is not weave's socket any more") {
		t.Errorf("warnings %q, want one of %s", status.Warnings, path)
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
	d := startDaemon(t, newDaemonConfig(t), func(ctx context.Context, _ config, _ *logrus.Entry) (*core, error) {
		close(opening)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	<-opening
	d.stop()
	if err := d.ended(t); err != nil {
		t.Errorf("serve: %v, want a clean end", err)
	}
}

func TestBackgroundFailureEndsServe(t *testing.T) {
	broken := errors.New("netlink is gone")
	err := serve(t.Context(), newDaemonConfig(t), quiet(), withCore(&core{
		backend: &fakeBackend{}, run: func(context.Context) error { return broken },
	}))
	if !errors.Is(err, broken) {
		t.Errorf("serve: %v, want %v", err, broken)
	}
}

func TestSecondInstanceIsRefused(t *testing.T) {
	d := startDaemon(t, newDaemonConfig(t), withCore(&core{backend: &fakeBackend{}}))
	opened := false
	open := func(context.Context, config, *logrus.Entry) (*core, error) {
		opened = true
		return nil, errors.New("opened")
	}

	// On the same plugin socket, then only on the same API socket: then its own plugin socket goes again.
	err := serve(t.Context(), d.cfg, quiet(), open)
	if err == nil || !strings.Contains(err.Error(), d.cfg.PluginSockets[0]+": another process serves it") {
		t.Errorf("%v", err)
	}
	other := newDaemonConfig(t)
	other.APISocket = d.cfg.APISocket
	err = serve(t.Context(), other, quiet(), open)
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

// TestUnusableStateIsRefused: a call that waits is told why, serve ends with the reason and the file stays as it is.
func TestUnusableStateIsRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(t *testing.T, path string)
		want error
	}{
		{"damaged", func(t *testing.T, path string) {
			makeState(t, path)
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for page := range int64(8) {
				if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, 64), page*4096+16); err != nil {
					t.Fatal(err)
				}
			}
		}, store.ErrDamaged},
		{"empty", func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, store.ErrDamaged},
		{"of the future", func(t *testing.T, path string) {
			makeState(t, path)
			setVersion(t, path, "99")
		}, store.ErrFuture},
		{"in use", func(t *testing.T, path string) {
			st, err := store.OpenBolt(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { st.Close() })
		}, store.ErrLocked},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := newDaemonConfig(t)
			c.make(t, cfg.State)
			before, err := os.ReadFile(cfg.State)
			if err != nil {
				t.Fatal(err)
			}
			err = serve(t.Context(), cfg, quiet(), openCore)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), cfg.State) {
				t.Errorf("%v, want %v with the path", err, c.want)
			}
			if after, err := os.ReadFile(cfg.State); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the state was changed (%v)", err)
			}
			if left := entries(t, filepath.Dir(cfg.PluginSockets[0])); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// makeState makes a state as weave does.
func makeState(t *testing.T, path string) {
	t.Helper()
	st, err := store.OpenBolt(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Identity(t.Context(), st); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// setVersion writes another version into the state.
func setVersion(t *testing.T, path, version string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte(version)) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
