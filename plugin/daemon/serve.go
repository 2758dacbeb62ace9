package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/api"
)

// stopTimeout is how long calls in flight get to finish when weave is told to stop: Docker kills a plugin after 10 s.
const stopTimeout = 8 * time.Second

// newServeCommand is `weave serve`, the daemon.
func newServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the plugin",
		Long: "Run the plugin: answer Docker's network and IPAM calls, and weave's own API, until SIGTERM or SIGINT.\n" +
			"Each flag can also be given as the environment variable that stands behind it.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := newConfig(cmd.Flags(), os.Getenv)
			open := openCore
			if err != nil {
				if !cfg.Managed {
					return err
				}
				open = refusing(fmt.Errorf("%w: see docker plugin set", err))
			}
			out := cmd.ErrOrStderr()
			if cfg.Managed {
				out = cmd.OutOrStdout() // the Engine logs what a plugin writes to its standard error as errors
			}
			log := newLog(cfg, out)
			if err := errors.Join(needNetAdmin(), dropSysAdmin(log)); err != nil {
				return err
			}
			return serveUntilSignal(cmd.Context(), cfg, log, open)
		},
	}
	addSettings(cmd.Flags())
	return cmd
}

// serveUntilSignal serves until the first signal asks it to stop; a second one ends the process at once.
func serveUntilSignal(ctx context.Context, cfg config, log *logrus.Entry, open opener) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	return serve(ctx, cfg, log, open)
}

func newLog(cfg config, to io.Writer) *logrus.Entry {
	log := logrus.New()
	log.SetOutput(to)
	log.SetLevel(cfg.LogLevel)
	if cfg.LogFormat == "json" {
		log.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	}
	return logrus.NewEntry(log)
}

// opener opens the core; it returns early when ctx ends.
type opener func(ctx context.Context, cfg config, log *logrus.Entry) (*core, error)

// refusing is an opener that fails for a reason known before.
func refusing(reason error) opener {
	return func(context.Context, config, *logrus.Entry) (*core, error) { return nil, reason }
}

// refusalTime is how long a managed plugin that can't work answers Docker's calls with the reason before it ends. Docker
// then starts it again at once, and would have nobody to ask if that were all it did.
const refusalTime = time.Minute

// serve runs the daemon until ctx ends or something fails for good. Its sockets listen before the core is open: an
// Engine waits 15 s in each of its calls for a plugin that does not listen, and one that starts makes many.
func serve(ctx context.Context, cfg config, log *logrus.Entry, open opener) error {
	g := newGate()
	servers, err := listen(ctx, cfg, g, log)
	switch {
	case err != nil && len(servers) > 0 && cfg.Managed:
		open = refusing(err)
	case err != nil:
		return errors.Join(err, stop(ctx, servers))
	default:
		log.WithFields(logrus.Fields{"plugin": cfg.PluginSockets, "api": cfg.APISocket}).Info("listening")
	}
	notify("READY=1", log)

	// When ctx ends, calls in flight are finished first; only then does the background end, which works for them.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	group, running := errgroup.WithContext(background)
	for _, s := range servers {
		group.Go(s.serve)
	}
	group.Go(func() error {
		opening, cancel := context.WithCancel(running)
		defer context.AfterFunc(ctx, cancel)()
		c, err := open(opening, cfg, log)
		switch {
		case err != nil && ctx.Err() != nil:
			g.fail(errStopping)
			return nil
		case err != nil && cfg.Managed:
			g.fail(err)
			log.WithError(err).Error("every call is answered with this")
			return refuseFor(running, refusalTime, err)
		case err != nil:
			g.fail(err)
			return err
		}
		c.taken = func() []string { return taken(servers) }
		g.open(c)
		log.Info("ready")
		return c.run(running)
	})

	select {
	case <-ctx.Done():
		log.Info("stopping")
		notify("STOPPING=1", log)
	case <-running.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := stop(stopping, servers); err != nil {
		return errors.Join(context.Cause(running), err)
	}
	stopBackground()
	err = group.Wait()
	if g.core != nil {
		err = errors.Join(err, g.core.close())
	}
	return err
}

// listen makes the sockets that can be made; the error is of the others.
func listen(ctx context.Context, cfg config, g *gate, log *logrus.Entry) (servers []*server, err error) {
	docker := newSocket(g, cfg.Scope, log)
	add := func(path string, a access, handler http.Handler) {
		s, failed := newServer(ctx, path, a, handler, log)
		if failed != nil {
			err = errors.Join(err, failed)
			return
		}
		servers = append(servers, s)
	}
	for _, path := range cfg.PluginSockets {
		add(path, forRoot, docker)
	}
	add(cfg.APISocket, forGroup(cfg.APIGroup), behind(g))
	return servers, err
}

// taken returns the paths at which one of servers' sockets was, and is no more.
func taken(servers []*server) (paths []string) {
	for _, s := range servers {
		if there, err := s.socket.there(); err != nil || !there {
			paths = append(paths, s.socket.path)
		}
	}
	return paths
}

// refuseFor waits for d and returns reason, or nil as soon as ctx ends.
func refuseFor(ctx context.Context, d time.Duration, reason error) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return reason
	case <-ctx.Done():
		return nil
	}
}

// stop stops all servers at once.
func stop(ctx context.Context, servers []*server) error {
	var all sync.WaitGroup
	errs := make([]error, len(servers))
	for i, s := range servers {
		all.Go(func() { errs[i] = s.stop(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// behind answers with the core's API once there is a core.
func behind(g *gate) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := g.wait(r.Context())
		if err != nil {
			reply(w, http.StatusServiceUnavailable, api.Error{Message: err.Error()})
			return
		}
		c.api.ServeHTTP(w, r)
	})
}
