// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"net/http"
	"os/signal"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/wait"
)

const (
	// stopTimeout is how long requests in flight get to finish when weave is to stop. Docker kills a plugin after
	// 10 s.
	stopTimeout = 8 * time.Second
	// refusalTime is how long a managed plugin that can't work answers Docker's calls with the reason before it ends.
	// Docker then starts it again at once, so that nobody would learn the reason if it ended right away.
	refusalTime = time.Minute
)

// daemon is one run of a Program.
type daemon struct {
	cfg     Config
	program Program
	gate    *gate
	sockets Sockets
	log     *logrus.Entry
}

// Serve runs p until SIGTERM or SIGINT comes, ctx ends or something fails for good. A second signal ends the process
// at once. The sockets listen before the core is open: Docker waits 15 s in each of its calls for a plugin that does
// not listen, and a Docker that starts makes many.
func Serve(ctx context.Context, cfg Config, p Program, log *logrus.Entry) error {
	ctx, stopSignals := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stopSignals()
	context.AfterFunc(ctx, stopSignals)

	d := &daemon{cfg: cfg, program: p, gate: newGate(), log: log}
	err := d.listen(ctx)
	switch {
	case err != nil && len(d.sockets.unix) > 0 && cfg.Managed:
		d.program.Open = openFails(err)
	case err != nil:
		return errors.Join(err, d.sockets.stop(ctx))
	default:
		log.WithFields(logrus.Fields{"plugin": cfg.PluginSockets, "api": cfg.APISocket}).Info("listening")
	}
	notify(systemd.SdNotifyReady, log)
	return d.run(ctx)
}

// listen makes all sockets that can be made. The error is about the others.
func (d *daemon) listen(ctx context.Context) error {
	docker := front{d.gate, d.program.Docker, func(c *Core) http.Handler { return c.Docker }, d.log}
	api := front{d.gate, d.program.API, func(c *Core) http.Handler { return c.API }, d.log}
	var errs []error
	add := func(path string, a access, handler http.Handler) {
		s, err := newServer(ctx, path, a, handler, d.log)
		if err != nil {
			errs = append(errs, err)
			return
		}
		d.sockets.unix = append(d.sockets.unix, s)
	}
	for _, path := range d.cfg.PluginSockets {
		add(path, forRoot, docker)
	}
	add(d.cfg.APISocket, forGroup(d.cfg.APIGroup), api)
	if d.cfg.HTTPAddress.IsValid() {
		page := front{d.gate, Protocol{Refuse: refuseText}, func(c *Core) http.Handler { return c.Page }, d.log}
		d.sockets.http = newHTTPServer(d.cfg.HTTPAddress, page, d.log)
	}
	return errors.Join(errs...)
}

// run serves the sockets, with the core behind them, until ctx ends or something fails. When ctx ends, requests in
// flight are finished first; only then does the core's background work end, on which they may depend.
func (d *daemon) run(ctx context.Context) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	group, running := errgroup.WithContext(background)
	for _, s := range d.sockets.unix {
		group.Go(s.serve)
	}
	group.Go(func() error { d.sockets.http.serve(running); return nil })
	group.Go(func() error { return d.runCore(ctx, running) })
	keeping, stopKeeping := context.WithCancel(running)
	defer stopKeeping()
	kept := make(chan struct{})
	go func() { d.sockets.keep(keeping); close(kept) }()

	select {
	case <-ctx.Done():
		d.log.Info("stopping")
		notify(systemd.SdNotifyStopping, d.log)
	case <-running.Done():
	}
	stopKeeping() // before the sockets are removed
	<-kept
	if core := d.gate.now(); core != nil && core.EndStreams != nil {
		core.EndStreams()
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := d.sockets.stop(stopping); err != nil {
		return errors.Join(context.Cause(running), err)
	}
	stopBackground()
	err := group.Wait()
	if d.gate.core != nil {
		err = errors.Join(err, d.gate.core.Close())
	}
	return err
}

// runCore opens the core and runs its background work until running ends. A core that is not open yet when ctx ends is
// not opened any more.
func (d *daemon) runCore(ctx, running context.Context) error {
	opening, cancel := context.WithCancel(running)
	defer context.AfterFunc(ctx, cancel)()
	core, err := d.program.Open(opening, d.sockets)
	switch {
	case err == nil:
		d.gate.open(core)
		d.log.Info("ready")
		return core.Run(running)
	case ctx.Err() != nil:
		d.gate.fail(errStopping)
		return nil
	case d.cfg.Managed:
		d.gate.fail(err)
		d.log.WithError(err).Error("every call is answered with this")
		if !wait.For(running, refusalTime) {
			return nil
		}
		return err
	default:
		d.gate.fail(err)
		return err
	}
}
