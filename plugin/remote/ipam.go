// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/sirupsen/logrus"

	"github.com/weaveplugin/weave/ipam"
)

// ipamCalls are Docker's IPAM calls.
type ipamCalls struct{ pools Pools }

// addPools adds the calls that pools does the work of.
func (r routes) addPools(pools Pools) {
	c := ipamCalls{pools}
	handle(r, logrus.InfoLevel, "IpamDriver.RequestPool", c.requestPool)
	handle(r, logrus.InfoLevel, "IpamDriver.ReleasePool", c.releasePool)
	handle(r, logrus.InfoLevel, "IpamDriver.RequestAddress", c.requestAddress)
	handle(r, logrus.InfoLevel, "IpamDriver.ReleaseAddress", c.releaseAddress)
}

func (c ipamCalls) requestPool(ctx context.Context, req *dockeripam.RequestPoolRequest) (
	*dockeripam.RequestPoolResponse, error,
) {
	request, err := poolRequest(req)
	if err != nil {
		return nil, fmt.Errorf("request pool %s in %s: %w", cmp.Or(req.Pool, "of any subnet"), req.AddressSpace, err)
	}
	p, err := c.pools.RequestPool(ctx, request)
	if err != nil {
		return nil, err
	}
	return &dockeripam.RequestPoolResponse{
		PoolID: string(p.ID), Pool: p.Subnet.String(), Data: map[string]string{},
	}, nil
}

func (c ipamCalls) releasePool(ctx context.Context, req *dockeripam.ReleasePoolRequest) (empty, error) {
	return empty{}, c.pools.ReleasePool(ctx, ipam.PoolID(req.PoolID))
}

// labelEndpointName is the option of a request for an address in which Docker, from 29 on, tells the name of the
// container (libnetwork/netlabel in moby). It is not sent for gateways and auxiliary addresses.
const labelEndpointName = labelPrefix + "endpoint.name"

// The option of a request for an address in which Docker tells what it is for, and its value for a gateway
// (libnetwork/ipamapi in moby).
const (
	optionAddressType = "RequestAddressType"
	gatewayAddress    = labelPrefix + "gateway"
)

// requestAddress passes over all other options of the request, which are Docker's own.
func (c ipamCalls) requestAddress(ctx context.Context, req *dockeripam.RequestAddressRequest) (
	*dockeripam.RequestAddressResponse, error,
) {
	var addr netip.Addr // any
	if req.Address != "" {
		var err error
		if addr, err = parseAddress(req.Address); err != nil {
			return nil, fmt.Errorf("request address %s of pool %s: %w", req.Address, req.PoolID, err)
		}
	}
	var got netip.Prefix
	var err error
	if req.Options[optionAddressType] == gatewayAddress {
		got, err = c.pools.RequestGateway(ctx, ipam.PoolID(req.PoolID), addr)
	} else {
		got, err = c.pools.RequestAddressFor(ctx, ipam.PoolID(req.PoolID), addr, req.Options[labelEndpointName])
	}
	if err != nil {
		return nil, err
	}
	return &dockeripam.RequestAddressResponse{Address: got.String(), Data: map[string]string{}}, nil
}

func (c ipamCalls) releaseAddress(ctx context.Context, req *dockeripam.ReleaseAddressRequest) (empty, error) {
	addr, err := parseAddress(req.Address)
	if err != nil {
		return empty{}, fmt.Errorf("release address %s of pool %s: %w", req.Address, req.PoolID, err)
	}
	return empty{}, c.pools.ReleaseAddress(ctx, ipam.PoolID(req.PoolID), addr)
}
