// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/hostcheck"
	"github.com/weaveplugin/weave/plugin/daemon"
)

// hostChecker returns what looks at the host. State is the path of weave's records.
func (p parts) hostChecker(state string, sockets daemon.Sockets) *hostcheck.Checker {
	o := hostcheck.Options{
		Tracker: p.networks, Inspector: p.inspector, Launcher: p.launcher, Kernel: p.kernel, Cluster: p.cluster != nil,
		Programs: p.programs.Problem,
		Warnings: func(ctx context.Context) map[api.HostPart][]string {
			all := map[api.HostPart][]string{}
			for _, w := range p.warnings(ctx, state, sockets) {
				all[w.part] = append(all[w.part], w.text)
			}
			return all
		},
	}
	if p.docker != nil {
		o.Docker = p.dockersView
		o.Container = func(id driver.EndpointID) string {
			_, name := p.docker.Container(string(id))
			return name
		}
	}
	return hostcheck.New(o)
}

// dockersView returns what Docker has of weave's now.
func (p parts) dockersView(ctx context.Context) (hostcheck.Docker, error) {
	version, err := p.docker.Version(ctx)
	if err != nil {
		return hostcheck.Docker{}, err
	}
	known, err := p.docker.Known(ctx)
	if err != nil {
		return hostcheck.Docker{}, err
	}
	view := hostcheck.Docker{
		Version: version, Networks: map[driver.NetworkID]bool{}, Endpoints: map[driver.EndpointID]bool{},
	}
	for _, n := range known.Networks {
		if slices.Contains(known.Drivers, n.Driver) { // others have weave for their IPAM driver alone
			view.Networks[n.ID] = true
		}
	}
	for _, e := range known.Endpoints {
		view.Endpoints[e.ID] = true
	}
	return view, nil
}
