package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/sandbox"
	"github.com/weaveplugin/weave/plugin/daemon"
	"github.com/weaveplugin/weave/plugin/dockersync"
	"github.com/weaveplugin/weave/plugin/remote"
	"github.com/weaveplugin/weave/store"
)

// newProgram returns what `weave serve` runs.
func newProgram(cfg daemon.Config, log *logrus.Entry) daemon.Program {
	return daemon.Program{
		Open: func(ctx context.Context, sockets daemon.Sockets) (*daemon.Core, error) {
			return openCore(ctx, cfg, sockets, log)
		},
		Docker: daemon.Protocol{Handshake: remote.NewHandshake(cfg.Scope, log), Refuse: remote.Refuse},
		API: daemon.Protocol{Refuse: func(w http.ResponseWriter, status int, err error) {
			api.Refuse(w, &api.Error{Code: status, Message: err.Error()})
		}},
	}
}

// openCore opens the state, brings what the kernel has in line with it, and wires all parts together.
func openCore(ctx context.Context, cfg daemon.Config, sockets daemon.Sockets, log *logrus.Entry) (
	_ *daemon.Core, err error,
) {
	started := time.Now()
	stores, err := openStores(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, stores.Close())
		}
	}()
	launcher, err := launch.New(launch.Options{Path: cfg.Nsproc, Root: sandbox.Root(cfg.SandboxRoot)})
	if err != nil {
		return nil, err
	}
	networks, err := driver.New(driver.Options{Store: stores.state, Endpoints: stores.endpoints, StateID: stores.id,
		Launcher: launcher, Log: log, MTU: cfg.MTU})
	if err != nil {
		return nil, err
	}
	pools, err := ipam.New(ipam.Options{Store: stores.state, Log: log, Routes: driver.HostRoutes, Vacant: networks.Vacant,
		RangeV4: cfg.Range, RangeV6: cfg.Range6, SubnetBits: cfg.SubnetBits})
	if err != nil {
		return nil, err
	}
	if err := pools.Load(ctx); err != nil {
		return nil, err
	}
	report, err := networks.Reconcile(ctx)
	if err != nil {
		return nil, err
	}
	log.WithFields(logrus.Fields{"networks": report.Networks, "endpoints": report.Endpoints, "took": report.Took}).
		Info("reconciled")

	background := []func(context.Context) error{networks.Run}
	listing := api.Options{Tracker: networks, Log: log}
	var docker *dockersync.Watcher
	if cfg.DockerSocket != "" {
		if docker, err = newWatcher(cfg, log); err != nil {
			return nil, err
		}
		listing.Names = docker
		comparison := dockersync.NewComparison(dockersync.ComparisonOptions{
			Docker: docker, Networks: networks, Pools: pools, Timing: dockersync.NewTiming(cfg.DockerInterval), Log: log,
		})
		background = append(background, withoutError(docker.Run), withoutError(comparison.Run))
	}
	fixed := fixedStatus(cfg, stores.id, started, report)
	listing.Status = func(context.Context) api.Status {
		return currentStatus(fixed, docker, networks.Endpoints(), launcher.Sandboxes(), sockets)
	}
	return &daemon.Core{
		Docker: remote.New(remote.Options{Networks: networks, Pools: pools, Scope: cfg.Scope, Log: log}),
		API:    api.NewServer(listing),
		Run:    func(ctx context.Context) error { return runAll(ctx, background) },
		Close:  func() error { return errors.Join(networks.Close(), stores.Close()) },
	}, nil
}

func newWatcher(cfg daemon.Config, log *logrus.Entry) (*dockersync.Watcher, error) {
	plugin, err := cfg.PluginID()
	if err != nil {
		return nil, err
	}
	return dockersync.NewWatcher(dockersync.WatcherOptions{
		Socket: cfg.DockerSocket, Drivers: cfg.DriverNames, PluginID: plugin, Log: log,
	}), nil
}

// stores are the files that weave keeps its records in.
type stores struct {
	id        string // of the state
	state     store.Store
	endpoints store.Store
}

// openStores opens both files. The file of endpoints lies below /run, in memory: it lives as long as the links do, and what
// Docker waits for is written without a disk. Its name has the state's id, so that a new state does not take the
// endpoints of an earlier one for its own.
func openStores(ctx context.Context, cfg daemon.Config) (_ *stores, err error) {
	state, err := store.OpenBolt(cfg.State)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, state.Close())
		}
	}()
	id, err := store.Identity(ctx, state)
	if err != nil {
		return nil, err
	}
	endpoints, err := store.OpenBolt(filepath.Join(cfg.RuntimeDir, fmt.Sprintf("endpoints-%s.db", id)))
	if err != nil {
		return nil, err
	}
	return &stores{id, state, endpoints}, nil
}

// Close closes both files.
func (s *stores) Close() error { return errors.Join(s.endpoints.Close(), s.state.Close()) }

// runAll runs all tasks until ctx ends or one of them fails.
func runAll(ctx context.Context, tasks []func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, task := range tasks {
		group.Go(func() error { return task(ctx) })
	}
	return group.Wait()
}

// withoutError returns a task that can't fail as one that can.
func withoutError(run func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		run(ctx)
		return nil
	}
}
