// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/api/server"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/check"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/ipam"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/nsproc/netnsid"
	"github.com/weaveplugin/weave/nsproc/sandbox"
	"github.com/weaveplugin/weave/plugin/daemon"
	"github.com/weaveplugin/weave/plugin/dockersync"
	"github.com/weaveplugin/weave/plugin/metrics"
	"github.com/weaveplugin/weave/plugin/page"
	"github.com/weaveplugin/weave/plugin/remote"
	"github.com/weaveplugin/weave/plugin/report"
	"github.com/weaveplugin/weave/store"
)

// newProgram returns what `weave serve` runs.
func newProgram(cfg daemon.Config, log *logrus.Entry) daemon.Program {
	recent := report.NewLog()
	log.Logger.AddHook(recent)
	return daemon.Program{
		Open: func(ctx context.Context, sockets daemon.Sockets) (*daemon.Core, error) {
			return openCore(ctx, cfg, sockets, log, recent)
		},
		Docker: daemon.Protocol{Handshake: remote.NewHandshake(cfg.Scope, log), Refuse: remote.Refuse},
		API: daemon.Protocol{Refuse: func(w http.ResponseWriter, status int, err error) {
			server.Refuse(w, &api.Error{Code: status, Message: err.Error()})
		}},
	}
}

// openCore opens the state, brings what the kernel has in line with it, and wires the parts together.
// Recent is the end of its log.
func openCore(
	ctx context.Context, cfg daemon.Config, sockets daemon.Sockets, log *logrus.Entry, recent *report.Log,
) (_ *daemon.Core, err error) {
	started := time.Now()
	files, err := openStores(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, files.Close())
		}
	}()
	p, err := newParts(ctx, cfg, files, log)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	reconciled, err := p.reconcile(ctx, log)
	if err != nil {
		return nil, err
	}
	log.WithFields(logrus.Fields{
		"networks": reconciled.Networks, "endpoints": reconciled.Endpoints, "took": reconciled.Took,
	}).Info("reconciled")

	p.teller.started(build().Version, reconciled)
	p.metrics.Reconciled(reconciled)

	listing := server.Options{
		Tracker: p.networks, Inspector: p.inspector, Pools: p.pools.Pools, Events: p.teller.events,
		Nsproc: p.networks, Rules: p.networks, Checker: check.New(p.inspector, p.launcher, p.networks),
		Links: p.kernel.Host, Metrics: p.metrics.Handler(log), Log: log,
	}
	if p.cluster != nil {
		listing.Cluster = p.cluster
	}
	if p.docker != nil {
		listing.Names, listing.DNS = p.docker, p.docker
	}
	fixed := fixedStatus(cfg, files.id, started, reconciled)
	listing.Status = func(ctx context.Context) api.Status {
		return currentStatus(ctx, fixed, reconciled.Problems, p, sockets)
	}
	listing.CheckHost = p.hostChecker(cfg.State, sockets).Check
	var answers *server.Server
	listing.Report = func(ctx context.Context, w io.Writer) error {
		return report.Write(ctx, w, reportSources(cfg, answers, p.inspector, recent, p.networks))
	}
	answers = server.New(listing)
	return &daemon.Core{
		Docker: remote.New(remote.Options{
			Networks: p.networks, Pools: p.pools, Scope: cfg.Scope, Recheck: p.recheck, Called: p.teller.called,
			Log: log,
		}),
		API:   answers,
		Page:  page.New(answers.Public(), listing.Metrics),
		Run:   p.run,
		Close: func() error { return errors.Join(p.Close(), files.Close()) },
		EndStreams: func() {
			p.teller.events.Close()
			answers.Stop()
		},
	}, nil
}

// parts are what works on networks, endpoints and addresses.
type parts struct {
	launcher  *launch.Launcher
	kernel    *netnsid.Querier
	programs  *tc.Programs
	networks  *driver.Driver
	pools     *ipam.IPAM
	docker    *dockersync.Watcher    // nil: weave does without Docker's API
	compare   *dockersync.Comparison // nil likewise
	cluster   *clusterParts          // nil: this host is in no cluster
	inspector *inspect.Inspector
	teller    *teller
	metrics   *metrics.Metrics
	drift     *inspect.Watcher
}

// newParts makes the parts and loads the pools.
func newParts(ctx context.Context, cfg daemon.Config, files *stores, log *logrus.Entry) (p parts, err error) {
	p.metrics = metrics.New(build().Version, build().Commit)
	p.launcher, err = launch.New(launch.Options{
		Path: cfg.Nsproc, Root: sandbox.Root(cfg.SandboxRoot), See: traceFailures(log), Ended: p.metrics.Nsproc,
	})
	if err != nil {
		return parts{}, err
	}
	kernel, err := netnsid.New(p.launcher.Sandboxes())
	if err != nil {
		return parts{}, err
	}
	programs := tc.Load(ctx)
	var hosts *clusterParts
	defer func() {
		if err != nil {
			err = errors.Join(err, hosts.Close(), kernel.Close(), programs.Close())
		}
	}()
	p.kernel, p.programs = kernel, programs
	dockersPools := dockersync.BuiltinPools
	if cfg.DockerSocket != "" {
		plugin, err := cfg.PluginID()
		if err != nil {
			return parts{}, err
		}
		o := dockersync.WatcherOptions{
			Socket: cfg.DockerSocket, Drivers: cfg.DriverNames, PluginID: plugin, Log: log,
		}
		if len(cfg.Cluster.Endpoints) > 0 { // other hosts are told of them
			o.HasAliases = func(network string) bool { return p.networks.OnCluster(driver.NetworkID(network)) }
		}
		p.docker = dockersync.NewWatcher(o)
		dockersPools = p.docker.DefaultPools
	}
	if hosts, err = newClusterParts(ctx, cfg.Cluster, files, p.launcher, log); err != nil {
		return parts{}, err
	}
	p.cluster = hosts
	p.networks, err = driver.New(driver.Options{
		Store: files.state, Endpoints: files.endpoints, StateID: files.id, Launcher: p.launcher,
		Kernel: kernel, Programs: programs, DockersPools: dockersPools, Firewall: cfg.Firewall, Accept: cfg.AcceptMark,
		Cluster: p.cluster.state(), Tunnel: p.cluster.hostsTunnel(), Log: log, MTU: cfg.MTU,
	})
	if err != nil {
		return parts{}, err
	}
	p.pools, err = ipam.New(ipam.Options{
		Store: files.state, Log: log, Routes: driver.HostRoutes, Avoid: dockersPools,
		InUse: p.networks.AddressesInUse, Reclaimable: p.networks.Reclaimable, Cluster: p.cluster.state(),
		InUseHere: p.networks.IsOnCluster,
		RangeV4:   cfg.Range, RangeV6: cfg.Range6, SubnetBits: cfg.SubnetBits,
	})
	if err != nil {
		return parts{}, err
	}
	if err := p.pools.Load(ctx); err != nil {
		return parts{}, err
	}
	p.inspector = inspect.New(p.launcher, p.kernel, log)
	p.teller = newTeller(p.networks, p.docker, p.metrics)
	p.measureNetworks()
	p.drift = inspect.NewWatcher(p.inspector, p.networks, p.teller.drifted)
	p.cluster.setUp(p, log)
	if p.docker != nil {
		p.compare = dockersync.NewComparison(dockersync.ComparisonOptions{
			Docker: p.docker, Networks: p.networks, Pools: p.pools,
			Timing: dockersync.NewTiming(cfg.DockerInterval), Log: log,
			Swarm: cfg.Scope == daemon.ScopeGlobal,
		})
	}
	return p, nil
}

// measureNetworks has the metrics tell of networks, endpoints and addresses.
func (p parts) measureNetworks() {
	sources := metrics.Sources{
		Networks: p.networks.Networks, Endpoints: p.networks.Endpoints, Pools: p.pools.Pools, Links: p.kernel.Host,
	}
	if p.docker != nil {
		sources.Name = p.docker.NetworkName
	}
	p.metrics.Measure(sources)
}

// Close waits for what the parts have under way.
func (p parts) Close() error {
	return errors.Join(p.networks.Close(), p.cluster.Close(), p.kernel.Close(), p.programs.Close())
}

// reconcile brings what the kernel has in line with the records, IPAM with the endpoints that are there, and the
// cluster with the networks.
func (p parts) reconcile(ctx context.Context, log *logrus.Entry) (driver.Report, error) {
	report, err := p.networks.Reconcile(driver.WithCause(ctx, driver.Cause{Kind: driver.CauseStart}))
	if err != nil {
		return driver.Report{}, err
	}
	held, err := p.pools.Hold(ctx, ipam.LocalSpace, p.networks.AddressesInUse(ctx, ipam.LocalSpace))
	if err != nil {
		report.Problems = append(report.Problems, fmt.Sprintf("addresses: %v", err))
		log.WithError(err).Error("reconcile: addresses")
	}
	if len(held) > 0 {
		log.WithField("addresses", held).Warn("reconcile: holding addresses of endpoints that the state did not hold")
	}
	if err := p.cluster.leaveRemoved(ctx, p, log); err != nil {
		report.Problems = append(report.Problems, fmt.Sprintf("networks of the cluster: %v", err))
		log.WithError(err).Error("reconcile: networks of the cluster")
	}
	return report, nil
}

// recheck has weave compare itself with Docker soon, and reports whether Docker can be asked.
func (p parts) recheck() bool {
	if p.docker == nil {
		return false
	}
	p.compare.Hurry()
	return p.docker.Reachable() == nil
}

// run does the parts' work in the background until ctx ends or something fails.
func (p parts) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.networks.Run(ctx) })
	group.Go(func() error { return p.pools.Run(ctx) })
	group.Go(func() error { p.teller.run(ctx); return nil })
	group.Go(func() error { p.drift.Run(ctx); return nil })
	if p.cluster != nil {
		group.Go(func() error { return p.cluster.sync.Run(ctx) })
	}
	if p.docker != nil {
		group.Go(func() error {
			p.docker.Run(ctx)
			return nil
		})
		group.Go(func() error {
			p.compare.Run(ctx)
			return nil
		})
	}
	return group.Wait()
}

// stores are the files that weave keeps its records in.
type stores struct {
	id        string // of the state
	state     store.Store
	endpoints store.Store
}

// openStores opens both files. The file of endpoints lies below /run, in memory: it lives as long as the links do, and
// what Docker waits for is recorded without a disk. Its name has the state's id, so that a new state does not take the
// endpoints of an earlier one for its own.
func openStores(ctx context.Context, cfg daemon.Config) (_ *stores, err error) {
	state, err := store.OpenBolt(ctx, cfg.State)
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
	endpoints, err := store.OpenBolt(ctx, filepath.Join(cfg.RuntimeDir, fmt.Sprintf("endpoints-%s.db", id)))
	if err != nil {
		return nil, err
	}
	return &stores{id, state, endpoints}, nil
}

// Close closes both files.
func (s *stores) Close() error { return errors.Join(s.endpoints.Close(), s.state.Close()) }
