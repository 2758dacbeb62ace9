package remote

import (
	"context"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/driver"
)

// networkCalls are Docker's network calls.
type networkCalls struct{ networks Networks }

// addNetworks adds the calls that networks does the work of.
func (r routes) addNetworks(networks Networks) {
	c := networkCalls{networks}
	handle(r, logrus.InfoLevel, "NetworkDriver.CreateNetwork", c.createNetwork)
	handle(r, logrus.InfoLevel, "NetworkDriver.DeleteNetwork", c.deleteNetwork)
	handle(r, logrus.InfoLevel, "NetworkDriver.CreateEndpoint", c.createEndpoint)
	handle(r, logrus.InfoLevel, "NetworkDriver.DeleteEndpoint", c.deleteEndpoint)
	handle(r, logrus.InfoLevel, "NetworkDriver.Join", c.join)
	handle(r, logrus.InfoLevel, "NetworkDriver.Leave", c.leave)
}

func (c networkCalls) createNetwork(ctx context.Context, req *network.CreateNetworkRequest) (empty, error) {
	if _, err := parseNetworkID(req.NetworkID); err != nil {
		return empty{}, err
	}
	return empty{}, c.networks.CreateNetwork(ctx, req)
}

func (c networkCalls) deleteNetwork(ctx context.Context, req *network.DeleteNetworkRequest) (empty, error) {
	if _, err := parseNetworkID(req.NetworkID); err != nil {
		return empty{}, err
	}
	return empty{}, c.networks.DeleteNetwork(ctx, req)
}

func (c networkCalls) createEndpoint(ctx context.Context, req *network.CreateEndpointRequest) (
	*network.CreateEndpointResponse, error,
) {
	if _, _, err := parseIDs(req.NetworkID, req.EndpointID); err != nil {
		return nil, err
	}
	return c.networks.CreateEndpoint(ctx, req)
}

func (c networkCalls) deleteEndpoint(ctx context.Context, req *network.DeleteEndpointRequest) (empty, error) {
	if _, _, err := parseIDs(req.NetworkID, req.EndpointID); err != nil {
		return empty{}, err
	}
	return empty{}, c.networks.DeleteEndpoint(ctx, req)
}

func (c networkCalls) join(ctx context.Context, req *network.JoinRequest) (*network.JoinResponse, error) {
	if _, _, err := parseIDs(req.NetworkID, req.EndpointID); err != nil {
		return nil, err
	}
	return c.networks.Join(ctx, req)
}

func (c networkCalls) leave(ctx context.Context, req *network.LeaveRequest) (empty, error) {
	if _, _, err := parseIDs(req.NetworkID, req.EndpointID); err != nil {
		return empty{}, err
	}
	return empty{}, c.networks.Leave(ctx, req)
}

func parseNetworkID(id string) (driver.NetworkID, error) {
	parsed, err := driver.ParseNetworkID(id)
	if err != nil {
		return "", badRequest{err}
	}
	return parsed, nil
}

func parseIDs(networkID, endpointID string) (driver.NetworkID, driver.EndpointID, error) {
	nw, err := parseNetworkID(networkID)
	if err != nil {
		return "", "", err
	}
	ep, err := driver.ParseEndpointID(endpointID)
	if err != nil {
		return "", "", badRequest{err}
	}
	return nw, ep, nil
}
