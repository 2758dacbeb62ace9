// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/driver"
)

// Cluster knows the hosts of the cluster that this one is in. cluster.Cluster is one, but for Status and Tunnels.
type Cluster interface {
	Self() cluster.Host
	HostName(id string) string
	Hosts() []cluster.HostStatus                                                     // by name
	Holdings(ctx context.Context, network string) (map[string][]netip.Prefix, error) // by host's id, from etcd
	Blocks(network string) []netip.Prefix                                            // of this host
	Remotes(network string) (remotes []cluster.Remote, known bool)
	Status() api.Cluster
	Tunnels() map[string]api.Tunnel // by host's id
	Forget(ctx context.Context, id string) error
}

// selfName returns the name of this host in its cluster; empty: it is in none.
func (s *Server) selfName() string {
	if s.options.Cluster == nil {
		return ""
	}
	return s.options.Cluster.Self().Name
}

// listRemotes returns the endpoints of a network that are on other hosts.
func (s *Server) listRemotes(n driver.Network) []api.Endpoint {
	if s.options.Cluster == nil || n.Cluster == "" {
		return nil
	}
	var list []api.Endpoint
	stale := s.options.Cluster.Status().Error != ""
	remotes, _ := s.options.Cluster.Remotes(n.Cluster)
	for _, r := range remotes {
		list = append(list, api.Endpoint{
			ID:            r.ID,
			NetworkID:     string(n.ID),
			NetworkName:   s.options.Names.NetworkName(string(n.ID)),
			ContainerID:   r.ContainerID,
			ContainerName: r.ContainerName,
			MAC:           r.MAC.String(),
			Addresses:     orEmpty(r.Addresses),
			Host:          s.options.Cluster.HostName(r.Host),
			Remote:        true,
			Stale:         stale,
		})
	}
	return list
}

// cluster answers with null where there is no cluster.
func (s *Server) cluster(_ context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	if s.options.Cluster == nil {
		return nil, nil
	}
	return s.options.Cluster.Status(), nil
}

func (s *Server) hosts(_ context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	return s.listHosts(), nil
}

// forget removes a host from the cluster, and answers with what it was.
func (s *Server) forget(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parseParameters(r.URL.RawQuery); err != nil {
		return nil, badRequest(err)
	}
	if s.options.Cluster == nil {
		return nil, errorf(http.StatusNotFound, "this host is in no cluster: weave serves without --cluster")
	}
	host, err := findHost(s.listHosts(), r.PathValue("host"))
	if err != nil {
		return nil, err
	}
	err = s.options.Cluster.Forget(ctx, host.ID)
	switch {
	case errors.Is(err, cluster.ErrPresent):
		err = errorf(http.StatusConflict, "%v", err)
	case errors.Is(err, cluster.ErrUnreachable):
		err = errorf(http.StatusServiceUnavailable, "%v: try again when `weave status` says that etcd answers", err)
	}
	return host, err
}

// findHost returns the host that a name, an id or the beginning of an id means.
func findHost(hosts []api.Host, filter string) (api.Host, error) {
	var candidates []candidate
	for _, h := range hosts {
		candidates = append(candidates, candidate{h.ID, h.Name})
	}
	ids, _ := match(filter, candidates)
	switch len(ids) {
	case 0:
		return api.Host{}, errorf(http.StatusNotFound,
			"host %q: the cluster has no such host; `weave hosts` lists them", filter)
	case 1:
		return hosts[slices.IndexFunc(hosts, func(h api.Host) bool { return ids[h.ID] })], nil
	}
	return api.Host{}, errorf(http.StatusBadRequest,
		"host %q: it may be %d hosts; want the id, as `weave hosts --format '{{.ID}} {{.Address}}'` has it",
		filter, len(ids))
}

// listHosts returns the hosts of the cluster by name.
func (s *Server) listHosts() []api.Host {
	list := []api.Host{}
	if s.options.Cluster == nil {
		return list
	}
	self, tunnels := s.options.Cluster.Self().ID, s.options.Cluster.Tunnels()
	for _, h := range s.options.Cluster.Hosts() {
		host := api.Host{
			ID: h.ID, Name: h.Name, Address: h.VTEP, Self: h.ID == self, Present: h.Present,
			Since: h.Since, GoneSince: h.GoneSince, Endpoints: h.Endpoints,
		}
		if t, ok := tunnels[h.ID]; ok {
			host.Tunnel = &t
		}
		list = append(list, host)
	}
	return list
}
