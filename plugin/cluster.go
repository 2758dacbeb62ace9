// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/names"
	"github.com/weaveplugin/weave/nsproc/launch"
	"github.com/weaveplugin/weave/overlay"
	"github.com/weaveplugin/weave/overlay/probe"
	"github.com/weaveplugin/weave/plugin/clustersync"
	"github.com/weaveplugin/weave/plugin/daemon"
	"github.com/weaveplugin/weave/store"
)

// clusterParts are what works on networks between hosts.
type clusterParts struct {
	*cluster.Cluster
	overlay *overlay.Overlay
	names   *names.Server
	prober  *probe.Prober
	sync    *clustersync.Sync
	tunnel  driver.Tunnel
	etcd    []string      // URLs of its members
	lease   time.Duration // that of this host's presence
}

// newClusterParts makes the parts; nil if this host is in no cluster. It needs no etcd for that.
func newClusterParts(
	ctx context.Context, cfg daemon.ClusterConfig, files *stores, launcher *launch.Launcher, log *logrus.Entry,
) (*clusterParts, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, nil
	}
	tls, err := cfg.TLSConfig()
	if err != nil {
		return nil, err
	}
	password, err := cfg.Password()
	if err != nil {
		return nil, err
	}
	if cfg.User != "" && !cfg.TLS {
		log.Warn("the password for etcd goes over the network unencrypted: --cluster etcds://... sends it over TLS")
	}
	address, err := knownAddress(ctx, cfg, files.state, log)
	if err != nil {
		return nil, err
	}
	name, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("this host's name for the cluster: %w", err)
	}
	server, err := names.New(names.Options{Launcher: launcher, Log: log})
	if err != nil {
		return nil, err
	}
	c, err := cluster.Open(ctx, cluster.Options{
		Endpoints: cfg.URLs(), TLS: tls, Username: cfg.User, Password: password, Prefix: cfg.Prefix,
		Host: cluster.Host{
			ID: files.id, Name: name, VTEP: address, Port: cfg.Port,
			Since: time.Now().UTC().Truncate(time.Millisecond),
		},
		Lease: cfg.Lease, Grace: cfg.Grace, Store: files.state, Log: log,
	})
	if err != nil {
		return nil, err
	}
	tunnel := driver.Tunnel{Local: address, Port: cfg.Port}
	prober := probe.New(probe.Options{
		ID: files.id, StateID: files.id, Local: address, Port: cfg.Port, VNI: cluster.ProbeVNI,
		Root: string(launcher.Sandboxes()), Patience: cfg.Lease + probePatience, Log: log,
	})
	return &clusterParts{
		Cluster: c, overlay: overlay.New(log), names: server, prober: prober, tunnel: tunnel, etcd: cfg.URLs(),
		lease: cfg.Lease,
	}, nil
}

// probePatience is how much longer than the lease nothing has to come from a host until that is a fault: a host whose
// weave has ended is gone for the cluster by then.
const probePatience = 5 * time.Second

const (
	addressKey  = "cluster/address" // the record of the address that this host had last
	resolveTime = 2 * time.Second   // for the name of one of etcd's members
)

// knownAddress returns hostAddress, or, while that is not known, the one that this host had last: a host that boots
// before its network is there brings its containers back.
func knownAddress(ctx context.Context, cfg daemon.ClusterConfig, state store.Store, log *logrus.Entry) (
	netip.Addr, error,
) {
	last, err := store.Load[netip.Addr](ctx, state, addressKey)
	if err != nil {
		return netip.Addr{}, err
	}
	address, err := hostAddress(ctx, cfg)
	switch {
	case err != nil && last[addressKey].IsValid():
		log.WithError(err).Warnf("this host's address for VXLAN packets is taken to be the last one, %s",
			last[addressKey])
		return last[addressKey], nil
	case err != nil || address == last[addressKey]:
		return address, err
	}
	put, err := store.Put(addressKey, address)
	if err != nil {
		return netip.Addr{}, err
	}
	return address, state.Apply(ctx, put)
}

// hostAddress returns the address that other hosts send VXLAN packets to: the one that is configured, or the one that
// packets from here to etcd have.
func hostAddress(ctx context.Context, cfg daemon.ClusterConfig) (netip.Addr, error) {
	if cfg.Address.IsValid() {
		return cfg.Address, nil
	}
	dialer := net.Dialer{Timeout: resolveTime}
	var why error
	for _, member := range cfg.Endpoints {
		conn, err := dialer.DialContext(ctx, "udp", member) // finds the route, and sends nothing
		if err != nil {
			why = err
			continue
		}
		local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
		if err := conn.Close(); err != nil {
			return netip.Addr{}, err
		}
		if local.IsGlobalUnicast() {
			return local.WithZone(""), nil
		}
		why = fmt.Errorf("etcd at %s is reached from %s", member, local)
	}
	return netip.Addr{}, fmt.Errorf("the address of this host for VXLAN packets is not known: %w: "+
		"say it with --cluster-address", why)
}

// state returns what hosts share; nil: this host is in no cluster.
func (c *clusterParts) state() *cluster.Cluster {
	if c == nil {
		return nil
	}
	return c.Cluster
}

func (c *clusterParts) hostsTunnel() driver.Tunnel {
	if c == nil {
		return driver.Tunnel{}
	}
	return c.tunnel
}

// setUp makes what keeps etcd and the kernel informed of the other parts.
func (c *clusterParts) setUp(p parts, log *logrus.Entry) {
	if c == nil {
		return
	}
	o := clustersync.Options{
		Driver: p.networks, Cluster: c.Cluster, Overlay: c.overlay, Answers: c.names, Prober: c.prober,
		Tunnel: c.tunnel, Patience: c.lease / 2, Log: log,
	}
	if p.docker != nil {
		o.Names = p.docker
	}
	c.sync = clustersync.New(o)
}

// leaveRemoved ends this host's memberships of networks that it does not have: they were removed while weave ran
// without --cluster, and nobody told etcd.
func (c *clusterParts) leaveRemoved(ctx context.Context, p parts, log *logrus.Entry) error {
	if c == nil {
		return nil
	}
	here := map[string]bool{}
	for _, nw := range p.networks.Networks() {
		here[nw.Cluster] = true
	}
	for _, pool := range p.pools.Pools() {
		here[pool.Network] = true
	}
	var errs []error
	for _, name := range c.Networks() {
		if !here[name] {
			log.Warnf("leaving network %s of the cluster: it was removed here while weave was not in the cluster", name)
			errs = append(errs, c.Leave(ctx, name))
		}
	}
	return errors.Join(errs...)
}

// problems tells what does not work between hosts, a line each.
func (c *clusterParts) problems() []string {
	if c == nil {
		return nil
	}
	return slices.Concat(c.Cluster.Problems(), c.overlay.Problems(), c.names.Problems(), c.prober.Problems(),
		c.sync.Problems())
}

// Status tells how this host is in the cluster.
func (c *clusterParts) Status() api.Cluster {
	last, sinceStart := c.Contact()
	s := api.Cluster{Etcd: c.etcd, LastContact: last, Address: c.tunnel.Local, Port: c.tunnel.Port}
	if err := c.Unreachable(); err != nil {
		s.Error = err.Error()
	} else if !sinceStart {
		s.Error = "no answer yet"
	}
	for _, h := range c.Hosts() {
		if h.Present {
			s.Hosts++
		}
	}
	for _, t := range c.Tunnels() {
		s.Probed++
		if t.Fault != "" {
			s.Faulty++
		}
	}
	return s
}

// Tunnels tells how the tunnels to other hosts are, by the hosts' ids.
func (c *clusterParts) Tunnels() map[string]api.Tunnel {
	out := map[string]api.Tunnel{}
	for id, r := range c.prober.Results() {
		out[id] = api.Tunnel{
			Since: r.Since, Probed: r.Probed, RoundTrip: r.RoundTrip.Seconds(), Fault: string(r.Fault), Text: r.Text,
		}
	}
	return out
}

// Close closes the connection to etcd.
func (c *clusterParts) Close() error {
	if c == nil {
		return nil
	}
	return c.Cluster.Close()
}
