package remote

import (
	"context"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/sirupsen/logrus"
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
	return c.pools.RequestPool(ctx, req)
}

func (c ipamCalls) releasePool(ctx context.Context, req *dockeripam.ReleasePoolRequest) (empty, error) {
	return empty{}, c.pools.ReleasePool(ctx, req)
}

func (c ipamCalls) requestAddress(ctx context.Context, req *dockeripam.RequestAddressRequest) (
	*dockeripam.RequestAddressResponse, error,
) {
	return c.pools.RequestAddress(ctx, req)
}

func (c ipamCalls) releaseAddress(ctx context.Context, req *dockeripam.ReleaseAddressRequest) (empty, error) {
	return empty{}, c.pools.ReleaseAddress(ctx, req)
}
