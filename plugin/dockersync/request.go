package dockersync

import (
	"net/netip"
	"slices"

	dockeripam "github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/ipam"
)

// createRequest returns the request by which Docker made n; drivers are the names of weave's.
func createRequest(n Network, drivers []string) *network.CreateNetworkRequest {
	generic := map[string]any{}
	for k, v := range n.Options {
		generic[k] = v
	}
	req := &network.CreateNetworkRequest{
		NetworkID: string(n.ID), Options: map[string]any{"com.docker.network.generic": generic},
	}
	if n.Internal {
		req.Options["com.docker.network.internal"] = true
	}
	space := ""
	if slices.Contains(drivers, n.IPAMDriver) {
		space = ipam.LocalSpace
	}
	for _, s := range n.Subnets {
		data := &network.IPAMData{AddressSpace: space, Pool: s.Subnet.String()}
		if s.Gateway.IsValid() {
			data.Gateway = netip.PrefixFrom(s.Gateway, s.Subnet.Bits()).String()
		}
		for name, addr := range s.Aux {
			if data.AuxAddresses == nil {
				data.AuxAddresses = map[string]any{}
			}
			data.AuxAddresses[name] = netip.PrefixFrom(addr, s.Subnet.Bits()).String()
		}
		if s.Subnet.Addr().Is4() {
			req.IPv4Data = append(req.IPv4Data, data)
		} else {
			req.IPv6Data = append(req.IPv6Data, data)
		}
	}
	return req
}

// deleteRequest returns the request by which Docker deletes a network.
func deleteRequest(id driver.NetworkID) *network.DeleteNetworkRequest {
	return &network.DeleteNetworkRequest{NetworkID: string(id)}
}

// poolRequest returns the request by which Docker gets the pool of s.
func poolRequest(s Subnet) *dockeripam.RequestPoolRequest {
	req := &dockeripam.RequestPoolRequest{
		AddressSpace: ipam.LocalSpace, Pool: s.Subnet.String(), V6: s.Subnet.Addr().Is6(),
	}
	if s.Range.IsValid() {
		req.SubPool = s.Range.String()
	}
	return req
}

// addressRequest returns the request by which Docker gets an address of a pool.
func addressRequest(poolID string, addr netip.Addr) *dockeripam.RequestAddressRequest {
	return &dockeripam.RequestAddressRequest{PoolID: poolID, Address: addr.String()}
}
