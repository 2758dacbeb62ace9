// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver"
)

// networkCalls are Docker's network calls.
type networkCalls struct {
	networks Networks
	pools    Pools
	scope    string // as in Options
	log      *logrus.Entry
}

// addNetworks adds the calls that networks does the work of, with the pools of those of the cluster.
func (r routes) addNetworks(networks Networks, pools Pools, scope string) {
	c := networkCalls{networks, pools, scope, r.log}
	handle(r, logrus.InfoLevel, "NetworkDriver.CreateNetwork", c.createNetwork)
	handle(r, logrus.InfoLevel, "NetworkDriver.DeleteNetwork", c.deleteNetwork)
	handle(r, logrus.InfoLevel, "NetworkDriver.CreateEndpoint", c.createEndpoint)
	handle(r, logrus.InfoLevel, "NetworkDriver.DeleteEndpoint", c.deleteEndpoint)
	handle(r, logrus.InfoLevel, "NetworkDriver.Join", c.join)
	handle(r, logrus.InfoLevel, "NetworkDriver.Leave", c.leave)
	handle(r, logrus.DebugLevel, "NetworkDriver.ProgramExternalConnectivity", c.programExternal)
	handle(r, logrus.DebugLevel, "NetworkDriver.RevokeExternalConnectivity", c.revokeExternal)
}

func (c networkCalls) createNetwork(ctx context.Context, req *network.CreateNetworkRequest) (empty, error) {
	if _, err := networkID(req.NetworkID); err != nil {
		return empty{}, err
	}
	spec, unknown, err := networkSpec(req)
	if err != nil {
		return empty{}, err
	}
	c.warnUnknown(unknown, "network", req.NetworkID)
	spec.Swarm = c.scope == network.GlobalScope
	if err := c.sharePools(ctx, &spec); err != nil {
		return empty{}, err
	}
	return empty{}, c.networks.CreateNetwork(ctx, spec)
}

// sharePools makes the pools of a network of the cluster those of that network. A pool of a network of the cluster
// makes its network one: Docker passes --ipam-opt to IPAM alone, and -o to the network driver alone.
func (c networkCalls) sharePools(ctx context.Context, spec *driver.NetworkSpec) error {
	for _, p := range spec.Pools {
		of, err := c.pools.Share(ctx, p.Space, p.Subnet, spec.Cluster)
		if err != nil {
			return err
		}
		spec.Cluster = of
	}
	return nil
}

// warnUnknown logs the names of options that were passed over, of the network or the endpoint of this id.
func (c networkCalls) warnUnknown(options []string, kind, id string) {
	if len(options) > 0 {
		c.log.WithField(kind, id).WithField("options", options).
			Warn("options that look like docker's own are unknown to weave and have no effect on it")
	}
}

func (c networkCalls) deleteNetwork(ctx context.Context, req *network.DeleteNetworkRequest) (empty, error) {
	nw, err := networkID(req.NetworkID)
	if err != nil {
		return empty{}, err
	}
	return empty{}, c.networks.DeleteNetwork(ctx, nw)
}

// createEndpoint answers only what the request left open, the MAC: Docker refuses to be told what it has said itself.
func (c networkCalls) createEndpoint(ctx context.Context, req *network.CreateEndpointRequest) (
	*network.CreateEndpointResponse, error,
) {
	if _, _, err := endpointIDs(req.NetworkID, req.EndpointID); err != nil {
		return nil, err
	}
	spec, unknown, err := endpointSpec(req)
	if err != nil {
		return nil, err
	}
	c.warnUnknown(unknown, "endpoint", req.EndpointID)
	ep, err := c.networks.CreateEndpoint(ctx, spec)
	if err != nil {
		return nil, err
	}
	answer := &network.EndpointInterface{}
	if spec.MAC.IsZero() {
		answer.MacAddress = ep.MAC.String()
	}
	return &network.CreateEndpointResponse{Interface: answer}, nil
}

func (c networkCalls) deleteEndpoint(ctx context.Context, req *network.DeleteEndpointRequest) (empty, error) {
	nw, ep, err := endpointIDs(req.NetworkID, req.EndpointID)
	if err != nil {
		return empty{}, err
	}
	return empty{}, c.networks.DeleteEndpoint(ctx, nw, ep)
}

func (c networkCalls) join(ctx context.Context, req *network.JoinRequest) (*network.JoinResponse, error) {
	nw, ep, err := endpointIDs(req.NetworkID, req.EndpointID)
	if err != nil {
		return nil, err
	}
	a, err := c.networks.Join(ctx, nw, ep, req.SandboxKey, ports(req.Options))
	if err != nil {
		return nil, err
	}
	resp := &network.JoinResponse{InterfaceName: network.InterfaceName{SrcName: a.Link, DstPrefix: a.Prefix}}
	if a.Gateway.IsValid() {
		resp.Gateway = a.Gateway.String()
	}
	if a.GatewayIPv6.IsValid() {
		resp.GatewayIPv6 = a.GatewayIPv6.String()
	}
	resp.DisableGatewayService = a.NotByDockers
	return resp, nil
}

// ports reads what the options of a request say about the container's ports.
func ports(options map[string]any) driver.Ports {
	published, _ := options[labelPortMap].([]any)
	exposed, _ := options[labelExposedPorts].([]any)
	switch {
	case len(published) > 0:
		return driver.Published
	case len(exposed) > 0:
		return driver.Exposed
	}
	return driver.NoPorts
}

func (c networkCalls) leave(ctx context.Context, req *network.LeaveRequest) (empty, error) {
	nw, ep, err := endpointIDs(req.NetworkID, req.EndpointID)
	if err != nil {
		return empty{}, err
	}
	return empty{}, c.networks.Leave(ctx, nw, ep)
}

// programExternal takes note that Docker has made the gateways that Join has answered the container's way out. The
// gateway itself is there already.
func (c networkCalls) programExternal(ctx context.Context, req *network.ProgramExternalConnectivityRequest) (
	empty, error,
) {
	return c.setExternal(ctx, req.NetworkID, req.EndpointID, true)
}

func (c networkCalls) revokeExternal(ctx context.Context, req *network.RevokeExternalConnectivityRequest) (
	empty, error,
) {
	return c.setExternal(ctx, req.NetworkID, req.EndpointID, false)
}

func (c networkCalls) setExternal(ctx context.Context, networkText, endpointText string, external bool) (empty, error) {
	nw, ep, err := endpointIDs(networkText, endpointText)
	if err != nil {
		return empty{}, err
	}
	return empty{}, c.networks.SetExternal(ctx, nw, ep, external)
}

// networkID checks the id of a network. The error is a badRequest.
func networkID(text string) (driver.NetworkID, error) {
	id := driver.NetworkID(text)
	if err := id.Check(); err != nil {
		return "", badRequest{err}
	}
	return id, nil
}

// endpointIDs checks the ids of a network and of an endpoint. The error is a badRequest.
func endpointIDs(networkText, endpointText string) (driver.NetworkID, driver.EndpointID, error) {
	nw, err := networkID(networkText)
	if err != nil {
		return "", "", err
	}
	ep := driver.EndpointID(endpointText)
	if err := ep.Check(); err != nil {
		return "", "", badRequest{err}
	}
	return nw, ep, nil
}
