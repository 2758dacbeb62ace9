// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/driver/inspect"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// gather gathers all facts. What can't be had is left out, with the reason.
func (c *Checker) gather(ctx context.Context) facts {
	f := facts{
		now: time.Now(), networks: c.o.Tracker.Networks(), warnings: c.o.Warnings(ctx), kernel: c.readKernel(ctx),
		rights: readRights(), sysctls: map[string]string{}, ports: map[string]int{},
	}
	if c.o.Docker != nil {
		docker, err := c.o.Docker(ctx)
		if err != nil {
			f.dockerErr = err
		} else {
			f.docker = &docker
		}
	}
	f.rules, f.rulesErr = c.o.Tracker.HostChains(ctx)
	host, err := c.o.Kernel.Host(ctx)
	if err != nil {
		f.portsErr = err
		host = &netstate.Snapshot{}
	}
	f.gatherRoutes(ctx, host.Links)
	f.gatherSysctls()
	ports := map[int]int{} // by index
	for _, l := range host.Links {
		ports[l.Master]++
	}
	bridges := map[string]mac.Address{}
	for _, l := range host.Links {
		f.ports[l.Name], bridges[l.Name] = ports[l.Index], l.MAC
	}
	members, sandboxes := c.observe(ctx, &f)
	f.tables, f.tablesErr = readNeighbourTables()
	if f.tablesErr == nil {
		f.tablesErr = c.countNeighbours(ctx, f.tables, sandboxes)
	}
	f.asked = c.askAll(ctx, f.networks, members, bridges)
	return f
}

// observe looks at all endpoints. It returns them by network, and their sandboxes, each once.
func (c *Checker) observe(ctx context.Context, f *facts) (members map[driver.NetworkID][]member, sandboxes []string) {
	networks := map[driver.NetworkID]driver.Network{}
	for _, nw := range f.networks {
		networks[nw.ID] = nw
	}
	before := c.o.Tracker.Endpoints()
	seen := c.o.Inspector.Observe(ctx, before, api.Kernel)
	after := map[driver.EndpointID]driver.Endpoint{}
	for _, e := range c.o.Tracker.Endpoints() {
		after[e.ID] = e
	}
	members = map[driver.NetworkID][]member{}
	for _, e := range before {
		now, there := after[e.ID]
		o, looked := seen[e.ID]
		if !there {
			continue // it was removed meanwhile
		}
		x := endpoint{Endpoint: now, name: c.o.Container(e.ID)}
		if looked {
			nw := networks[e.Network]
			x.drift = inspect.Lasting(inspect.Drift(nw, e, o), inspect.Drift(nw, now, o))
		}
		f.endpoints = append(f.endpoints, x)
		members[e.Network] = append(members[e.Network], member{x, o})
		if e.Sandbox != "" {
			sandboxes = append(sandboxes, e.Sandbox)
		}
	}
	slices.Sort(sandboxes)
	return members, slices.Compact(sandboxes)
}

// gatherRoutes adds the host's routes that are not for the host itself.
func (f *facts) gatherRoutes(ctx context.Context, links []netstate.Link) {
	routes, err := driver.ListHostRoutes(ctx)
	if err != nil {
		f.routesErr = err
		return
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Index] = l.Name
	}
	for _, r := range routes {
		if !r.Local && (r.IsSpecial() || r.Destination.Bits() == 0) {
			f.routes = append(f.routes, route{r.Destination, names[r.Link]})
		}
	}
}

// gatherSysctls reads those that judges ask for.
func (f *facts) gatherSysctls() {
	names := []string{
		bridgeFilter[false], bridgeFilter[true], "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", rpFilter("all"),
	}
	for _, nw := range f.networks {
		names = append(names, rpFilter(nw.Bridge))
	}
	for _, r := range f.routes {
		if r.destination.Bits() == 0 && r.link != "" {
			names = append(names, rpFilter(r.link))
		}
	}
	for _, name := range names {
		if value, err := os.ReadFile("/proc/sys/" + name); err == nil {
			f.sysctls[name] = strings.TrimSpace(string(value))
		}
	}
}
