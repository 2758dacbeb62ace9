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
	s.Warnings = p.networks.Problems(ctx)
	reconcile := *s.Reconcile
	reconcile.Error = strings.Join(stillWrong(atStart, s.Warnings), "; ")
	s.Reconcile = &reconcile
	if p.docker != nil {
		usable, warnings := p.docker.DriverNames()
		s.Docker = api.Docker{Reachable: true, Drivers: usable}
		if err := p.docker.Reachable(); err != nil {
			s.Docker.Reachable, s.Docker.Error = false, err.Error()
		}
		s.Warnings = append(append(s.Warnings, warnings...), p.docker.Problems()...)
	}
	for _, warning := range []string{
		diskWarning(s.Store),
		wayOutWarning(p.docker != nil && p.docker.HasNetwork(driver.WayOut),
			p.networks.Networks(), p.networks.Endpoints()),
	} {
		if warning != "" {
			s.Warnings = append(s.Warnings, warning)
		}
	}
	s.Warnings = append(s.Warnings, strayPoolWarnings(p.pools.Pools(), p.networks.IsOnCluster, time.Now())...)
	for _, r := range p.networks.Repairs() {
		s.Repairs = append(s.Repairs, api.Repair{
			Time: r.Time, NetworkID: string(r.Network), Subject: r.Subject, What: r.What, By: r.By,
		})
	}
	if warning := unseenWarning(p.networks.Endpoints(), p.launcher.Sandboxes()); warning != "" {
		s.Warnings = append(s.Warnings, warning)
	}
	if p.cluster != nil {
		status := p.cluster.Status()
		s.Cluster = &status
	}
	s.Warnings = append(s.Warnings, p.drift.Problem()...)
	s.Warnings = append(s.Warnings, p.cluster.problems()...)
	s.Warnings = append(s.Warnings, sockets.Warnings()...)
	return s
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
