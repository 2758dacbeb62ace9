package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/dockerapi"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/sandbox"
	"github.com/weaveplugin/weave/store"
)

// core is what works behind the sockets.
type core struct {
	backend backend
	api     http.Handler
	run     func(context.Context) error // works in the background until ctx ends
	close   func() error                // after all else
	taken   func() []string             // paths at which weave's sockets are no more; serve sets it
}

// drivers are the backend as it is in earnest.
type drivers struct {
	networkDriver
	ipamDriver
}

// openCore opens the state and brings what the kernel has in line with it.
func openCore(ctx context.Context, cfg config, log *logrus.Entry) (_ *core, err error) {
	started := time.Now()
	st, err := store.OpenBolt(ctx, cfg.State)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.Close())
		}
	}()
	id, err := store.Identity(ctx, st)
	if err != nil {
		return nil, err
	}
	// What Docker waits for is written to memory, which lives as long as the links do. The id keeps a new state from taking
	// an earlier one's endpoints for its own.
	endpoints, err := store.OpenBolt(ctx, filepath.Join(cfg.RuntimeDir, "endpoints-"+id+".db"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, endpoints.Close())
		}
	}()
	launcher, err := launch.New(launch.Options{Path: cfg.Nsproc, Root: sandbox.Root(cfg.SandboxRoot)})
	if err != nil {
		return nil, err
	}
	networks, err := driver.New(driver.Options{Store: st, Endpoints: endpoints, StateID: id, Launcher: launcher, Log: log, MTU: cfg.MTU})
	if err != nil {
		return nil, err
	}
	pools, err := ipam.New(ipam.Options{Store: st, Log: log, Routes: driver.HostRoutes, Vacant: networks.Vacant,
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
	log.WithFields(logrus.Fields{"networks": report.Networks, "endpoints": report.Endpoints, "took": report.Took}).Info("reconciled")

	status := api.Status{
		StateID:   id,
		PID:       os.Getpid(),
		Started:   started,
		Store:     cfg.State,
		Ranges:    cfg.ranges(),
		Reconcile: reconcileStatus(report),
		Docker:    api.Docker{Error: "not asked: --docker-socket is none", Drivers: cfg.DriverNames},
		Warnings:  report.Problems,
	}
	plugin, err := findPluginID(cfg)
	if err != nil {
		return nil, err
	}
	status.Version, status.Commit = buildInfo()
	listing := api.Options{Tracker: networks, Log: log}
	background := []func(context.Context) error{networks.Run}
	reachable := func(*api.Status) {}
	if cfg.DockerSocket != "" {
		docker := dockerapi.New(dockerapi.Options{Socket: cfg.DockerSocket, Drivers: cfg.DriverNames, PluginID: plugin, Log: log})
		e := &engine{docker: docker, networks: networks, pools: pools, timing: defaultEngineTiming, log: log}
		background = append(background, forever(docker.Run), forever(e.run))
		listing.Names = docker
		reachable = func(s *api.Status) {
			s.Docker = dockerStatus(docker.Reachable())
			tellDrivers(s, cfg.DriverNames, docker.PluginName(), docker.Plugins())
		}
	}
	c := &core{taken: func() []string { return nil }}
	listing.Status = func(context.Context) api.Status {
		s := status
		s.Uptime = time.Since(started).Seconds()
		reachable(&s)
		tellUnseen(&s, networks.Endpoints(), launcher.Sandboxes())
		tellTaken(&s, c.taken())
		return s
	}
	c.backend, c.api = drivers{networks, pools}, api.NewServer(listing)
	c.run = func(ctx context.Context) error { return together(ctx, background) }
	c.close = func() error { return errors.Join(networks.Close(), endpoints.Close(), st.Close()) }
	return c, nil
}

// together runs all tasks until ctx ends or one of them fails.
func together(ctx context.Context, tasks []func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, task := range tasks {
		group.Go(func() error { return task(ctx) })
	}
	return group.Wait()
}

// forever is a task that can't fail.
func forever(run func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		run(ctx)
		return nil
	}
}

func reconcileStatus(r driver.Report) *api.Reconcile {
	return &api.Reconcile{
		Ended:   time.Now(),
		Took:    r.Took.Seconds(),
		Actions: slices.Concat(r.Repaired, r.Removed),
		Error:   strings.Join(r.Problems, "; "),
	}
}

func dockerStatus(err error) api.Docker {
	if err != nil {
		return api.Docker{Error: err.Error()}
	}
	return api.Docker{Reachable: true}
}
