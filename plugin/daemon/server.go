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
)

const (
	// writeTimeout is longer than any request may take: the API's take up to 30 s.
	writeTimeout = 40 * time.Second
	// idleTimeout closes connections without requests, so that those of clients that have forgotten them don't pile up.
	// It is long because Docker, when its connection is closed under a call, repeats the call without its body, and
	// fails.
	idleTimeout = time.Hour
	// maxHeader is the size in bytes of the largest header; it holds the longest query of the API, with a thousand
	// names of containers and as many of networks.
	maxHeader = 2 << 20
)

// server serves HTTP on a Unix socket.
type server struct {
	http   *http.Server
	socket *unixSocket
}

// newServer listens at path for those who have access; serve then answers with handler.
func newServer(ctx context.Context, path string, a access, handler http.Handler, log *logrus.Entry) (*server, error) {
	socket, err := listenUnix(ctx, path, a)
	if err != nil {
		return nil, err
	}
	return &server{socket: socket, http: &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          stdlog.New(logWriter{log}, "", 0),
	}}, nil
}

// serve answers requests until stop.
func (s *server) serve() error {
	if err := s.http.Serve(s.socket); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.socket.path, err)
	}
	return nil
}

// stop takes no more requests and returns when those in flight are answered, or with an error when ctx ends.
func (s *server) stop(ctx context.Context) error {
	removed := s.socket.remove(ctx)
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("requests on %s are not finished: %w", s.socket.path, err)
	}
	// Shutdown has closed it already if serve was called.
	if closed := s.socket.Close(); !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	return errors.Join(removed, err)
}

// Sockets are those that the daemon listens on.
type Sockets []*server

// Warnings returns a warning for each socket that was removed or replaced by another program, as Weave Net puts its own
// socket there.
func (s Sockets) Warnings() []string {
	var warnings []string
	for _, path := range s.lost() {
		warnings = append(warnings, path+" is not weave's socket any more, and weave is not reached there: "+
			"stop the program that took it, if it was one, then restart weave")
	}
	return warnings
}

// lost returns the paths at which one of the sockets was and is not any more.
func (s Sockets) lost() []string {
	var paths []string
	for _, server := range s {
		if there, err := server.socket.there(); err != nil || !there {
			paths = append(paths, server.socket.path)
		}
	}
	return paths
}

// stop stops all servers at once.
func (s Sockets) stop(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make([]error, len(s))
	for i, server := range s {
		all.Go(func() { errs[i] = server.stop(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// logWriter writes the messages of net/http, a line each, to the log.
type logWriter struct{ log *logrus.Entry }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Warn(strings.TrimSpace(string(line)))
	return len(line), nil
}
