// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/api"
	apiserver "github.com/weaveplugin/weave/api/server"
	"github.com/weaveplugin/weave/plugin/remote"
)

// socketPath returns a path for a socket, in a directory that does not exist.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wv") // t.TempDir may be too long for a socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "plugins", "weave.sock")
}

// answers reports whether a process accepts connections at path.
func answers(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// entries returns the names of the files in dir.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// running is a daemon under test.
type running struct {
	cfg  Config
	stop context.CancelFunc
	done chan error
}

// newDaemonConfig returns a configuration with all paths in a directory of the test's own, without Docker's API.
func newDaemonConfig(t *testing.T) Config {
	t.Helper()
	path := socketPath(t)
	dir := filepath.Dir(filepath.Dir(path))
	cfg, err := parseConfig(t, []string{
		"--plugin-socket=" + path, "--api-socket=" + filepath.Join(dir, "api", "weave.sock"), "--docker-socket=none",
		"--state=" + filepath.Join(dir, "weave.db"), "--runtime-dir=" + filepath.Join(dir, "api"),
	}, nil)
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

// opens returns a program whose core is c, ready at once. The functions that c lacks do nothing.
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
			apiserver.Refuse(w, &api.Error{Code: status, Message: err.Error()})
		}},
	}
}

// answer is a handler that answers with text.
func answer(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
}
