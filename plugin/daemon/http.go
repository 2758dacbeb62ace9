// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"

	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// httpConnections bounds, with apiIdle, what those who can connect to the TCP address hold. A browser has up to
	// six, one of them for events.
	httpConnections = 64
	// httpHeader is the size in bytes of the largest header there.
	httpHeader = 16 << 10
	// listenInterval is the time between two attempts to listen at the TCP address.
	listenInterval = 2 * time.Second
)

// httpServer serves the page and metrics at a TCP address. Docker's networks don't depend on it, so weave works without
// it as long as the address can't be listened at, as before a host has it when it boots. A nil one serves nothing.
type httpServer struct {
	http *http.Server
	addr netip.AddrPort
	log  *logrus.Entry

	mu     sync.Mutex
	failed error // why it does not listen; nil: it does, or is about to
}

// newHTTPServer returns a server that answers at addr with a handler.
func newHTTPServer(addr netip.AddrPort, handler http.Handler, log *logrus.Entry) *httpServer {
	return &httpServer{addr: addr, log: log, http: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       apiIdle,
		MaxHeaderBytes:    httpHeader,
		ErrorLog:          stdlog.New(logWriter{log}, "", 0),
	}}
}

// refuseText answers a request with an error as text.
func refuseText(w http.ResponseWriter, status int, err error) { http.Error(w, err.Error(), status) }

// serve answers requests until stop. What keeps it from listening it logs, and tries again until ctx ends.
func (s *httpServer) serve(ctx context.Context) {
	if s == nil {
		return
	}
	if warning := s.exposed(); warning != "" {
		s.log.Warn(warning)
	}
	for {
		l, err := s.listen(ctx)
		s.note(err)
		if err == nil {
			err = s.http.Serve(netutil.LimitListener(l, httpConnections))
			if errors.Is(err, http.ErrServerClosed) {
				return
			}
			s.note(err)
		}
		if !wait.For(ctx, listenInterval) {
			return
		}
	}
}

// listen listens at an IPv4 address for IPv4 alone, even if that is 0.0.0.0.
func (s *httpServer) listen(ctx context.Context) (net.Listener, error) {
	network := "tcp"
	if s.addr.Addr().Is4() {
		network = "tcp4"
	}
	return (&net.ListenConfig{}).Listen(ctx, network, s.addr.String())
}

// note keeps why the server does not listen, nil if it does, and logs what is new.
func (s *httpServer) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.log.WithField("address", s.addr).Info("serving the page and metrics")
	case s.failed == nil || s.failed.Error() != err.Error():
		s.log.WithError(err).Error("the page and metrics can't be served: trying again")
	}
	s.failed = err
}

// warnings returns what is wrong with the server now.
func (s *httpServer) warnings() (out []string) {
	if s == nil {
		return nil
	}
	if warning := s.exposed(); warning != "" {
		out = append(out, warning)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		out = append(out, fmt.Sprintf("the page and metrics are not served at --http-address %s: %v", s.addr, s.failed))
	}
	return out
}

// exposed returns a warning if others than this host may connect, else an empty text.
func (s *httpServer) exposed() string {
	if s.addr.Addr().Unmap().IsLoopback() {
		return ""
	}
	return fmt.Sprintf("--http-address %s is not a loopback address: whoever reaches it, containers among them, sees "+
		"networks, containers with their addresses, events and traffic, and may have probes sent between containers: "+
		"choose 127.0.0.1, or have the host's firewall let in only whom you trust with that", s.addr)
}

// stop takes no more requests and returns when those in flight are answered, or cut off when ctx ends.
func (s *httpServer) stop(ctx context.Context) {
	if s == nil {
		return
	}
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // whatever is under way is cut off
	}
}
