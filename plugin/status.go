// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/nsproc/sandbox"
	"github.com/weaveplugin/weave/plugin/daemon"
)

// fixedStatus returns the part of the status that does not change while weave runs.
func fixedStatus(cfg daemon.Config, stateID string, started time.Time, r driver.Report) api.Status {
	b := build()
	return api.Status{
		Version: b.Version,
		Commit:  b.Commit,
		StateID: stateID,
		PID:     os.Getpid(),
		Started: started,
		Store:   cfg.State,
		Ranges:  cfg.Ranges(),
		Reconcile: &api.Reconcile{
			Ended:   time.Now(),
			Took:    r.Took.Seconds(),
			Actions: slices.Concat(r.Repaired, r.Removed),
		},
		Docker: api.Docker{Error: "not read: --docker-socket is none", Drivers: cfg.DriverNames},
	}
}

// currentStatus returns the fixed part of the status with what is so now. A problem that is over is not in it.
func currentStatus(
	ctx context.Context, s api.Status, atStart []string, p parts, sockets daemon.Sockets,
) api.Status {
	s.Uptime = time.Since(s.Started).Seconds()
	if p.docker != nil {
		usable, _ := p.docker.DriverNames()
		s.Docker = api.Docker{Reachable: true, Drivers: usable}
		if err := p.docker.Reachable(); err != nil {
			s.Docker.Reachable, s.Docker.Error = false, err.Error()
		}
	}
	var ofNetworks []string
	for _, w := range p.warnings(ctx, s.Store, sockets) {
		s.Warnings = append(s.Warnings, w.text)
		if w.part == api.HostLinks {
			ofNetworks = append(ofNetworks, w.text)
		}
	}
	reconcile := *s.Reconcile
	reconcile.Error = strings.Join(stillWrong(atStart, ofNetworks), "; ")
	s.Reconcile = &reconcile
	for _, r := range p.networks.Repairs() {
		s.Repairs = append(s.Repairs, api.Repair{
			Time: r.Time, NetworkID: string(r.Network), Subject: r.Subject, What: r.What, By: r.By,
		})
	}
	if p.cluster != nil {
		status := p.cluster.Status()
		s.Cluster = &status
	}
	return s
}

// warning is something that is wrong now. The status has its text; a check of the host has it among what it finds of
// that part.
type warning struct {
	part api.HostPart
	text string
}

// warnings returns what weave itself knows to be wrong now. State is the path of its records.
func (p parts) warnings(ctx context.Context, state string, sockets daemon.Sockets) (all []warning) {
	add := func(part api.HostPart, texts ...string) {
		for _, text := range texts {
			if text != "" {
				all = append(all, warning{part, text})
			}
		}
	}
	endpoints := p.networks.Endpoints()
	add(api.HostLinks, p.networks.Problems(ctx)...)
	if p.docker != nil {
		_, names := p.docker.DriverNames()
		add(api.HostDocker, names...)
		add(api.HostDocker, p.docker.Problems()...)
	}
	add(api.HostState, diskWarning(state))
	add(api.HostWayOut, wayOutWarning(p.docker != nil && p.docker.HasNetwork(driver.WayOut), p.networks.Networks(),
		endpoints))
	add(api.HostCluster, strayPoolWarnings(p.pools.Pools(), p.networks.IsOnCluster, time.Now())...)
	add(api.HostSandboxes, unseenWarning(endpoints, p.launcher.Sandboxes()))
	add(api.HostCapabilities, p.drift.Problem()...)
	add(api.HostCluster, p.cluster.problems()...)
	add(api.HostState, sockets.Warnings()...)
	return all
}

// stillWrong returns those of the present problems that are about what was a problem at the start, too.
func stillWrong(atStart, now []string) []string {
	subjects := map[string]bool{}
	for _, p := range atStart {
		subject, _, _ := strings.Cut(p, ": ")
		subjects[subject] = true
	}
	return slices.DeleteFunc(slices.Clone(now), func(p string) bool {
		subject, _, _ := strings.Cut(p, ": ")
		return !subjects[subject]
	})
}

// unseenWarning returns a warning if mounts that Docker made after weave started don't reach it, else an empty text. It
// looks at the sandbox that was made last: earlier ones weave may have found when it started.
func unseenWarning(endpoints []driver.Endpoint, root sandbox.Root) string {
	var last driver.Endpoint
	for _, e := range endpoints {
		// Endpoints in other states may be left over from containers that have ended.
		if e.State() == driver.Up && !e.Created.Before(last.Created) {
			last = e
		}
	}
	if last.Sandbox == "" {
		return ""
	}
	f, err := root.Open(last.Sandbox)
	if err == nil {
		f.Close()
	}
	if errors.Is(err, sandbox.ErrNotVisible) {
		return "sandboxes can't be seen, so container ends are not announced and live listings fail, all else works: " +
			sandbox.ErrNotVisible.Error()
	}
	return ""
}
