// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"

	"github.com/weaveplugin/weave/internal/peer"
)

const (
	// writeTimeout is longer than any request may take: the API's take up to 30 s.
	writeTimeout = 40 * time.Second
	// dockerIdle closes Docker's connections without requests. It is long because Docker, when its connection is closed
	// under a call, repeats the call without its body, and fails.
	dockerIdle = time.Hour
	// apiIdle and apiConnections bound what the members of the API's group can hold: no more connections, and none for
	// longer without a request. Further ones wait in the kernel, which takes no descriptor, so Docker's calls always
	// find some.
	apiIdle        = 10 * time.Second
	apiConnections = 32
	// maxHeader is the size in bytes of the largest header; it holds the longest query of the API, with a thousand
	// names of containers and as many of networks.
	maxHeader = 2 << 20
)

// restoreInterval is the time between two looks whether the sockets are still there.
const restoreInterval = 2 * time.Second

// server serves HTTP on a Unix socket.
type server struct {
	http   *http.Server
	path   string
	access access
	limit  int // of connections at a time; 0: none
	log    *logrus.Entry

	mu     sync.Mutex  // guards what follows
	socket *unixSocket // another one after somebody has removed it
	lost   error       // why there is none at the path now; nil: there is
}

// newServer listens at path for those who have access; serve then answers with handler.
func newServer(ctx context.Context, path string, a access, handler http.Handler, log *logrus.Entry) (*server, error) {
	socket, err := listenUnix(ctx, path, a)
	if err != nil {
		return nil, err
	}
	s := &server{path: path, access: a, log: log, socket: socket, http: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       dockerIdle,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          stdlog.New(logWriter{log}, "", 0),
	}}
	if !a.rootOnly() {
		s.limit, s.http.IdleTimeout = apiConnections, apiIdle
	}
	return s, nil
}

// serve answers requests until stop.
func (s *server) serve() error {
	for {
		socket := s.current()
		err := s.http.Serve(s.limited(socket))
		switch {
		case errors.Is(err, http.ErrServerClosed):
			return nil
		case s.current() == socket:
			return fmt.Errorf("serve %s: %w", s.path, err)
		}
	}
}

// limited returns l with the limit of connections, whose requests tell their user.
func (s *server) limited(l net.Listener) net.Listener {
	l = peer.Listen(l)
	if s.limit > 0 {
		return netutil.LimitListener(l, s.limit)
	}
	return l
}

func (s *server) current() *unixSocket {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.socket
}

// restore makes the socket again if somebody has removed it. One that another process serves stays.
func (s *server) restore(ctx context.Context) {
	old := s.current()
	there, err := old.there()
	var socket *unixSocket
	if err == nil && !there {
		socket, err = listenUnix(ctx, s.path, s.access)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if s.lost == nil {
			s.log.WithError(err).Error("a socket was taken away, and is not made again while that is so")
		}
		s.lost = err
		return
	}
	s.lost = nil
	if socket != nil {
		s.log.WithField("socket", s.path).Warn("somebody had removed the socket: it is made again")
		s.socket = socket
		if err := old.Close(); err != nil { // serve goes on with the new one
			s.log.WithError(err).Warn("close the socket that was removed")
		}
	}
}

// stop takes no more requests and returns when those in flight are answered, or with an error when ctx ends.
func (s *server) stop(ctx context.Context) error {
	socket := s.current()
	removed := socket.remove(ctx)
	err := s.http.Shutdown(ctx)
	if errors.Is(err, net.ErrClosed) { // a socket that was removed and made again a moment ago
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("requests on %s are not finished: %w", s.path, err)
	}
	// Shutdown has closed it already if serve was called.
	if closed := socket.Close(); !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	return errors.Join(removed, err)
}

// Sockets are those that the daemon listens on.
type Sockets struct {
	unix []*server
	http *httpServer // nil: none
}

// Warnings returns a warning for each socket that is not weave's now: removed a moment ago, or replaced by another
// program, as Weave Net puts its own socket there. The TCP address has one if others than this host may connect to it,
// and if it can't be listened at.
func (s Sockets) Warnings() []string {
	warnings := s.http.warnings()
	for _, server := range s.unix {
		if there, err := server.current().there(); err == nil && there {
			continue
		}
		warning := server.path + " is not weave's socket any more, and weave is not reached there: "
		server.mu.Lock()
		if server.lost != nil {
			warning += fmt.Sprintf("it is made again when that is possible: %v", server.lost)
		} else {
			warning += "it is being made again"
		}
		server.mu.Unlock()
		warnings = append(warnings, warning)
	}
	return warnings
}

// keep makes sockets again that somebody has removed, until ctx ends.
func (s Sockets) keep(ctx context.Context) {
	tick := time.NewTicker(restoreInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, server := range s.unix {
			server.restore(ctx)
		}
	}
}

// stop stops all servers at once.
func (s Sockets) stop(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make([]error, len(s.unix))
	for i, server := range s.unix {
		all.Go(func() { errs[i] = server.stop(ctx) })
	}
	all.Go(func() { s.http.stop(ctx) })
	all.Wait()
	return errors.Join(errs...)
}

// logWriter writes the messages of net/http, a line each, to the log.
type logWriter struct{ log *logrus.Entry }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Warn(strings.TrimSpace(string(line)))
	return len(line), nil
}
