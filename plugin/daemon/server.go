package main

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// server serves HTTP on a Unix socket.
type server struct {
	http   *http.Server
	socket *unixSocket
}

// idleTimeout closes connections that say nothing, so that those of clients that have forgotten them don't pile up. It is
// long: a call that meets the end of its connection is repeated by the Engine without its body, and then fails.
const idleTimeout = time.Hour

// maxHeader holds the longest question to the API, a thousand names of either kind.
const maxHeader = 2 << 20

// newServer listens at path for those who have access; serve then answers with handler.
func newServer(ctx context.Context, path string, a access, handler http.Handler, log *logrus.Entry) (*server, error) {
	socket, err := listenUnix(ctx, path, a)
	if err != nil {
		return nil, err
	}
	return &server{socket: socket, http: &http.Server{
		Handler:           recovered(log, handler),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * callTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          stdlog.New(logWriter{log}, "", 0),
	}}, nil
}

// serve answers until stop.
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

// logWriter takes what net/http has to say, a line a time.
type logWriter struct{ log *logrus.Entry }

func (w logWriter) Write(line []byte) (int, error) {
	w.log.Warn(strings.TrimSpace(string(line)))
	return len(line), nil
}
