package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"

	"github.com/weaveplugin/weave/ipam"
)

// ipamWire answers Docker's IPAM calls: it turns their texts into typed calls of the IPAM, and the answers into
// Docker's.
type ipamWire struct{ pools *ipam.IPAM }

// RequestPool implements ipamDriver.
func (w ipamWire) RequestPool(ctx context.Context, r *dockeripam.RequestPoolRequest) (
	*dockeripam.RequestPoolResponse, error,
) {
	request, err := poolRequest(r)
	if err != nil {
		return nil, fmt.Errorf("request pool %s in %s: %w", cmp.Or(r.Pool, "of any subnet"), r.AddressSpace, err)
	}
	p, err := w.pools.RequestPool(ctx, request)
	if err != nil {
		return nil, err
	}
	return poolResponse(p), nil
}

// ReleasePool implements ipamDriver.
func (w ipamWire) ReleasePool(ctx context.Context, r *dockeripam.ReleasePoolRequest) error {
	return w.pools.ReleasePool(ctx, ipam.PoolID(r.PoolID))
}

// RequestAddress implements ipamDriver. The request's options, which are Docker's own, change nothing: a gateway is an
// address like any other.
func (w ipamWire) RequestAddress(ctx context.Context, r *dockeripam.RequestAddressRequest) (
	*dockeripam.RequestAddressResponse, error,
) {
	var addr netip.Addr // any
	if r.Address != "" {
		var err error
		if addr, err = parseAddress(r.Address); err != nil {
			return nil, fmt.Errorf("request address %s of pool %s: %w", r.Address, r.PoolID, err)
		}
	}
	got, err := w.pools.RequestAddress(ctx, ipam.PoolID(r.PoolID), addr)
	if err != nil {
		return nil, err
	}
	return addressResponse(got), nil
}

// ReleaseAddress implements ipamDriver.
func (w ipamWire) ReleaseAddress(ctx context.Context, r *dockeripam.ReleaseAddressRequest) error {
	addr, err := parseAddress(r.Address)
	if err != nil {
		return fmt.Errorf("release address %s of pool %s: %w", r.Address, r.PoolID, err)
	}
	return w.pools.ReleaseAddress(ctx, ipam.PoolID(r.PoolID), addr)
}

// dockerOptionPrefix begins the names of the options that Docker itself adds to a request.
const dockerOptionPrefix = "com.docker.network."

// poolRequest reads Docker's request for a pool. The errors are ipam.ErrInvalid.
func poolRequest(r *dockeripam.RequestPoolRequest) (ipam.PoolRequest, error) {
	for _, k := range slices.Sorted(maps.Keys(r.Options)) {
		if !strings.HasPrefix(k, dockerOptionPrefix) {
			return ipam.PoolRequest{}, fmt.Errorf("%w: option %s: %q: weave's IPAM has no options",
				ipam.ErrInvalid, k, r.Options[k])
		}
	}
	request := ipam.PoolRequest{Space: r.AddressSpace}
	if r.SubPool != "" {
		var err error
		if request.Range, err = parseSubnet(r.SubPool); err != nil {
			return ipam.PoolRequest{}, err
		}
	}
	if r.Pool == "" {
		request.IPv6 = r.V6
		return request, nil
	}
	subnet, err := parseSubnet(r.Pool)
	switch {
	case err != nil:
		return ipam.PoolRequest{}, err
	case r.V6 && subnet.Addr().Is4(): // an IPv6 subnet without V6 is right: Swarm never sets it
		return ipam.PoolRequest{}, fmt.Errorf("%w: subnet %s: want an IPv6 subnet", ipam.ErrInvalid, subnet)
	case !subnet.Addr().IsUnspecified():
		request.Subnet = subnet
	case subnet.Bits() == 0:
		return ipam.PoolRequest{}, fmt.Errorf("%w: subnet %s: it is all addresses", ipam.ErrInvalid, subnet)
	default: // since Docker 29, 0.0.0.0/24 means any subnet of that length
		request.IPv6, request.Bits = subnet.Addr().Is6(), subnet.Bits()
	}
	return request, nil
}

func poolResponse(p ipam.Pool) *dockeripam.RequestPoolResponse {
	return &dockeripam.RequestPoolResponse{
		PoolID: string(p.ID), Pool: p.Subnet.String(), Data: map[string]string{},
	}
}

func addressResponse(p netip.Prefix) *dockeripam.RequestAddressResponse {
	return &dockeripam.RequestAddressResponse{Address: p.String(), Data: map[string]string{}}
}

// parseSubnet reads a subnet as a user types it. Host bits are dropped, as Docker's own IPAM does.
func parseSubnet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%w: subnet %q: want an address and a length, "+
			"like 10.32.0.0/22 or fd00:32::/64", ipam.ErrInvalid, s)
	}
	return p.Masked(), nil
}

// parseAddress reads an address as Docker sends it. An IPv4 address that is mapped to IPv6 counts as the IPv4 address.
func parseAddress(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: address %q: want one like 10.32.0.5 or fd00:32::5", ipam.ErrInvalid, s)
	}
	if addr.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%w: address %q: a pool's addresses have no zone", ipam.ErrForeignAddress, s)
	}
	return addr.Unmap(), nil
}
