// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"fmt"
	"slices"

	"github.com/weaveplugin/weave/driver"
)

// wireService is what is read of a service of Swarm's.
type wireService struct {
	Spec     struct{ Name string }
	Endpoint struct {
		VirtualIPs []struct {
			NetworkID string
			Addr      string // empty on the network of a node alone
		}
	}
}

// Problems tells of the services that can't be reached by their names, a line each.
func (w *Watcher) Problems() []string { return w.dead.Get() }

// lookAtServices finds the services that can't be reached by their names, if this node is one that knows services.
// Swarm answers the name of a service with a virtual address, but has a load balancer behind it only on networks of its
// own overlay driver (daemon/network.go of Docker).
func (w *Watcher) lookAtServices(ctx context.Context, s session, known Known) {
	names := map[driver.NetworkID]string{}
	for _, n := range known.Networks {
		if n.Scope == "swarm" && slices.Contains(known.Drivers, n.Driver) {
			names[n.ID] = n.Name
		}
	}
	var services []wireService
	if len(names) > 0 {
		if err := s.readServices(ctx, &services); err != nil {
			w.log.WithError(err).Debug("services can't be read: will be tried again")
			return
		}
	}
	var found []string
	for _, service := range services {
		for _, ip := range service.Endpoint.VirtualIPs {
			if name, ours := names[driver.NetworkID(ip.NetworkID)]; ours && ip.Addr != "" {
				found = append(found, fmt.Sprintf("service %s: its virtual address on network %s, %s, leads nowhere: "+
					"docker service update --endpoint-mode dnsrr %[1]s", service.Spec.Name, name, ip.Addr))
			}
		}
	}
	slices.Sort(found)
	w.dead.Set(found, w.log)
}

// readServices reads the swarm's services. There are none on a node that is no manager, whose Docker would log an error
// if it were asked.
func (s session) readServices(ctx context.Context, services *[]wireService) error {
	var info struct {
		Swarm struct{ ControlAvailable bool }
	}
	if err := s.get(ctx, "/info", &info); err != nil || !info.Swarm.ControlAvailable {
		return err
	}
	return s.get(ctx, "/services", services)
}
