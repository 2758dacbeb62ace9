// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"

	"github.com/weaveplugin/weave/driver/firewall"
	"github.com/weaveplugin/weave/overlay/probe"
)

// followHosts has the firewall take VXLAN packets from the hosts of the cluster alone, again each time that some have
// come or gone, until ctx ends. A host is known here before it has endpoints, so nothing of it gets lost.
func (d *Driver) followHosts(ctx context.Context) {
	if d.cluster == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.cluster.HostsChanged():
			if err := d.guardTunnel(ctx); err != nil && ctx.Err() == nil {
				d.log.WithError(err).Warn("the firewall does not know all hosts of the cluster yet: trying again")
			}
		}
	}
}

// guardTunnel tells the firewall which hosts there are. As long as this host has never seen them it takes packets from
// everybody.
func (d *Driver) guardTunnel(ctx context.Context) error {
	if d.cluster == nil {
		return nil
	}
	hosts, known := d.cluster.VTEPs()
	if !known {
		return nil
	}
	return d.firewall.SetTunnel(ctx, firewall.Tunnel{
		Port: d.tunnel.Port, Local: d.tunnel.Local, Hosts: hosts, Probes: probe.DeviceName,
	})
}
