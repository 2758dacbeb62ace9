// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// freeAddress returns an address that nobody listens at.
func freeAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// request makes a request without a body and returns the answer and its body.
func request(t *testing.T, method string, addr netip.AddrPort, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr.String()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// TestHTTPServesThePage: and nothing that a core answers with on its sockets.
func TestHTTPServesThePage(t *testing.T) {
	cfg := newDaemonConfig(t)
	cfg.HTTPAddress = freeAddress(t)
	d := startDaemon(t, cfg, opens(&Core{API: answer("api"), Docker: answer("docker"), Page: answer("page")}))
	eventually(t, "the page is served", func() bool {
		conn, err := net.Dial("tcp", cfg.HTTPAddress.String())
		return err == nil && conn.Close() == nil
	})
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{http.MethodGet, "/", http.StatusOK, "page"},
		{http.MethodHead, "/", http.StatusOK, ""},
		{http.MethodGet, "/v1/status", http.StatusOK, "page"},
		{http.MethodPost, "/Plugin.Activate", http.StatusOK, "page"},
	} {
		resp, body := request(t, c.method, cfg.HTTPAddress, c.path)
		if resp.StatusCode != c.status || body != c.body {
			t.Errorf("%s %s: status %d, %q, want %d, %q", c.method, c.path, resp.StatusCode, body, c.status, c.body)
		}
	}
	d.stop()
	if err := d.ended(t); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", cfg.HTTPAddress.String()); err == nil {
		conn.Close()
		t.Error("the address is still served")
	}
}

// TestHTTPPanic: a defect is answered as text.
func TestHTTPPanic(t *testing.T) {
	cfg := newDaemonConfig(t)
	cfg.HTTPAddress = freeAddress(t)
	panics := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("oops") })
	startDaemon(t, cfg, opens(&Core{Page: panics}))
	eventually(t, "the page is served", func() bool {
		conn, err := net.Dial("tcp", cfg.HTTPAddress.String())
		return err == nil && conn.Close() == nil
	})
	resp, body := request(t, http.MethodGet, cfg.HTTPAddress, "/metrics")
	if resp.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "a defect in weave: oops") {
		t.Errorf("status %d, %q", resp.StatusCode, body)
	}
}

// TestHTTPAddressInUse: weave works without, says so, and listens when the address is free.
func TestHTTPAddressInUse(t *testing.T) {
	other, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s := newHTTPServer(other.Addr().(*net.TCPAddr).AddrPort(), answer("metrics"), quiet())
	sockets := Sockets{http: s}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan struct{})
	go func() { s.serve(ctx); close(served) }()
	eventually(t, "a warning", func() bool {
		w := sockets.Warnings()
		return len(w) == 1 && strings.Contains(w[0], s.addr.String()) && strings.Contains(w[0], "already in use")
	})
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no warning", func() bool { return len(sockets.Warnings()) == 0 })
	if _, body := request(t, http.MethodGet, s.addr, "/metrics"); body != "metrics" {
		t.Errorf("answered with %q", body)
	}
	s.stop(t.Context())
	<-served
	cancel()

	// One that can't listen ends, too.
	again, err := net.Listen("tcp4", s.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	newHTTPServer(s.addr, answer(""), quiet()).serve(ctx)
}

// TestExposedAddressIsWarnedOf: others than this host may connect.
func TestExposedAddressIsWarnedOf(t *testing.T) {
	for addr, exposed := range map[string]bool{
		"127.0.0.1:1": false, "127.1.2.3:1": false, "[::1]:1": false, "[::ffff:127.0.0.1]:1": false,
		"0.0.0.0:1": true, "[::]:1": true, "192.0.2.1:1": true, "[fe80::1%eth0]:1": true,
	} {
		s := Sockets{http: newHTTPServer(netip.MustParseAddrPort(addr), nil, quiet())}
		w := s.Warnings()
		if got := len(w) == 1 && strings.Contains(w[0], addr+" is not a loopback address"); got != exposed {
			t.Errorf("%s: warnings %q", addr, w)
		}
	}
	if w := (Sockets{}).Warnings(); len(w) > 0 {
		t.Errorf("without an address: %q", w)
	}
}

// TestHTTPIsBounded: connections, their time and what is read of them.
func TestHTTPIsBounded(t *testing.T) {
	s := newHTTPServer(freeAddress(t), answer(""), quiet())
	for _, d := range []time.Duration{
		s.http.ReadHeaderTimeout, s.http.ReadTimeout, s.http.WriteTimeout, s.http.IdleTimeout,
	} {
		if d <= 0 {
			t.Errorf("a timeout of %v", d)
		}
	}
	var open atomic.Int32
	s.http.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	served := make(chan struct{})
	go func() { s.serve(t.Context()); close(served) }()
	var held []net.Conn
	eventually(t, "as many connections as are allowed", func() bool {
		if len(held) < 10*httpConnections {
			if conn, err := net.Dial("tcp", s.addr.String()); err == nil {
				held = append(held, conn)
			}
		}
		if open.Load() > httpConnections {
			t.Fatalf("%d connections at a time, want at most %d", open.Load(), httpConnections)
		}
		return len(held) == 10*httpConnections && open.Load() == httpConnections
	})
	for _, conn := range held {
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
	}
	if resp, _ := request(t, http.MethodGet, s.addr, "/metrics"); resp.StatusCode != http.StatusOK {
		t.Errorf("after the others have gone: status %d", resp.StatusCode)
	}
	s.stop(t.Context())
	<-served
}
