// SPDX-License-Identifier: Apache-2.0

package firewalld

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
)

// TestNoBus: a host without D-Bus has no firewalld, and that is nothing to tell anybody.
func TestNoBus(t *testing.T) {
	z, hook := newZone(filepath.Join(t.TempDir(), "none"))
	z.Set(t.Context(), []string{"wv-1"}, true)
	if err := z.Problem(); err != nil {
		t.Errorf("Problem: %v, want none", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	z.Run(ctx) // ends with its context
	if n := len(hook.AllEntries()); n > 0 {
		t.Errorf("%d log entries, want none", n)
	}
}

// TestSilentBus: a bus that takes the connection and answers nothing keeps nobody longer than the context allows.
func TestSilentBus(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bus")
	silent, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	z, _ := newZone(path)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		z.Set(ctx, []string{"wv-1"}, true)
	}()
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	<-ended
	if err := z.Problem(); err == nil {
		t.Error("no problem, though nobody has answered")
	}
}

func newZone(path string) (*Zone, *test.Hook) {
	log, hook := test.NewNullLogger()
	return New(Options{BusPath: path, Log: logrus.NewEntry(log)}), hook
}
