// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus/hooks/test"
)

// TestSystemdIsNotified: a unit of Type=notify is up when the sockets listen, and not before.
func TestSystemdIsNotified(t *testing.T) {
	cfg := newDaemonConfig(t)
	socket := filepath.Join(filepath.Dir(cfg.State), "notify.sock")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	message := func() string {
		if err := systemd.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, err := systemd.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	t.Setenv("NOTIFY_SOCKET", socket)

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, cfg, opens(&Core{}), quiet()) }()
	if got := message(); got != "READY=1" {
		t.Errorf("first %q", got)
	}
	if !answers(cfg.PluginSockets[0]) || !answers(cfg.APISocket) {
		t.Error("systemd heard that weave is ready before its sockets listen")
	}
	stop()
	if got := message(); got != "STOPPING=1" {
		t.Errorf("then %q", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSystemdIsNotThere(t *testing.T) {
	log, hook := test.NewNullLogger()
	t.Setenv("NOTIFY_SOCKET", "")
	notify("READY=1", log.WithField("test", t.Name()))
	if len(hook.Entries) > 0 {
		t.Errorf("without systemd: %s", hook.LastEntry().Message)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	notify("READY=1", log.WithField("test", t.Name()))
	if len(hook.Entries) != 1 {
		t.Errorf("%d entries in the log, want one", len(hook.Entries))
	}
}
