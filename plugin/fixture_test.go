// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/plugin/daemon"
)

const (
	networkID     = "7d2a4352179e00f14c5fbe322bff4b586f4cef09e5a4bda73851b8725299a4bc"
	deleteNetwork = `{"NetworkID":"` + networkID + `"}`
)

// newConfig returns a configuration with all paths in a directory of the test's own, without Docker's API.
func newConfig(t *testing.T) daemon.Config {
	t.Helper()
	dir := socketDir(t)
	return daemon.Config{
		PluginSockets:  []string{filepath.Join(dir, "plugins", "weave.sock")},
		DriverNames:    []string{"weave"},
		APISocket:      filepath.Join(dir, "api", "weave.sock"),
		APIGroup:       -1,
		State:          filepath.Join(dir, "weave.db"),
		RuntimeDir:     filepath.Join(dir, "api"),
		Nsproc:         executable(t),
		DockerInterval: time.Minute,
		Range:          netip.MustParsePrefix("10.32.0.0/12"),
		SubnetBits:     22,
		MTU:            1500,
		Scope:          "local",
		LogLevel:       logrus.InfoLevel,
	}
}

// socketDir returns a directory for sockets, for whose address t.TempDir may be too long.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// executable returns the path of a program, which is never run.
func executable(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "nsproc")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// running is a daemon in the process of the test.
type running struct {
	cfg  daemon.Config
	stop context.CancelFunc
	done chan error
}

// startDaemon runs weave until the test ends, and waits until it listens.
func startDaemon(t *testing.T, cfg daemon.Config) *running {
	t.Helper()
	return startProgram(t, cfg, newProgram(cfg, quiet()))
}

func startProgram(t *testing.T, cfg daemon.Config, p daemon.Program) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	d := &running{cfg: cfg, stop: stop, done: make(chan error, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.done <- daemon.Serve(ctx, cfg, p, quiet())
	}()
	t.Cleanup(func() {
		stop()
		<-ended
	})
	eventually(t, "weave listens", func() bool { return answers(cfg.PluginSockets[0]) && answers(cfg.APISocket) })
	return d
}

// ended waits until the daemon has ended.
func (d *running) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-d.done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the daemon does not end")
		return nil
	}
}

// answers reports whether a process accepts connections at path.
func answers(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	return conn.Close() == nil
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

// quiet returns a log that nobody reads.
func quiet() *logrus.Entry {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return logrus.NewEntry(log)
}
