// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

// poolRequest reads Docker's request for a pool. The errors are ipam.ErrInvalid.
func poolRequest(r *dockeripam.RequestPoolRequest) (ipam.PoolRequest, error) {
	for _, k := range slices.Sorted(maps.Keys(r.Options)) {
		if k != driver.OptionNetwork && !strings.HasPrefix(k, labelPrefix) {
			return ipam.PoolRequest{}, fmt.Errorf("%w: option %s: %q: weave's IPAM has one option, %s",
				ipam.ErrInvalid, k, r.Options[k], driver.OptionNetwork)
		}
	}
	request := ipam.PoolRequest{Space: r.AddressSpace, Network: r.Options[driver.OptionNetwork]}
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
