// SPDX-License-Identifier: Apache-2.0

// Command proxy is a proxy for Docker's API between Docker and a test suite that was written for Docker's bridge
// driver. It passes requests on, from a Unix socket of its own to Docker's, but turns requests to create a bridge
// network into ones for a weave network. See docs/bridge-suites.md. It is for tests only.
//
// It runs in the namespaces of whoever starts it and enters no others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
)

// stopTimeout is the time that requests in progress have after SIGTERM.
const stopTimeout = 5 * time.Second

func main() {
	listen := flag.String("listen", "/run/weave-proxy.sock", "`path` of the socket to serve Docker's API on")
	docker := flag.String("engine", "/run/docker.sock", "`path` of the socket of Docker's API")
	driver := flag.String("driver", "weave", "`name` of the driver to use in place of bridge")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := logrus.NewEntry(logrus.StandardLogger())
	if err := serve(ctx, *listen, newProxy(*docker, *driver, log)); err != nil {
		log.Fatal(err)
	}
}

// removeDead removes the socket that a killed proxy has left at path. It returns an error if anything else is there.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
	}
	if info.Mode().Type() != fs.ModeSocket || !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s is there already, and not a socket that nobody serves: choose another path", path)
	}
	return os.Remove(path)
}

// serve serves on the socket path until ctx ends.
func serve(ctx context.Context, path string, handler http.Handler) error {
	if err := removeDead(path); err != nil {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close() // for streams, which may never end by themselves
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
