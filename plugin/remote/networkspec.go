// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
)

// Keys that Docker itself puts into the options of a request; see libnetwork/netlabel in moby.
const (
	labelPrefix     = "com.docker.network."
	labelGeneric    = labelPrefix + "generic" // the options that the user typed
	labelInternal   = labelPrefix + "internal"
	labelEnableIPv4 = labelPrefix + "enable_ipv4"
)

// networkSpec returns the network that Docker asks for. Unknown options are ErrInvalid, except those with Docker's
// prefix, since Docker adds some from its configuration.
func networkSpec(req *network.CreateNetworkRequest) (driver.NetworkSpec, error) {
	spec := driver.NetworkSpec{Definition: driver.Definition{ID: driver.NetworkID(req.NetworkID)}}
	for _, key := range slices.Sorted(maps.Keys(req.Options)) {
		var err error
		switch value := req.Options[key]; {
		case key == labelGeneric:
			err = addUserOptions(&spec, value)
		case key == labelInternal:
			spec.Internal, err = boolLabel(key, value)
		case key == labelEnableIPv4: // first sent by Docker 28, which is also the first that announces addresses itself
			spec.Announced = true
		case !strings.HasPrefix(key, labelPrefix):
			err = unknownOption(key, value, "weave has no such option for a network")
		}
		if err != nil {
			return driver.NetworkSpec{}, err
		}
	}
	for _, data := range slices.Concat(req.IPv4Data, req.IPv6Data) {
		pool, err := networkPool(data)
		if err != nil {
			return driver.NetworkSpec{}, err
		}
		if pool.Subnet.IsValid() {
			spec.Pools = append(spec.Pools, pool)
		}
	}
	return spec, nil
}

// addUserOptions reads what the user typed with `docker network create -o`.
func addUserOptions(spec *driver.NetworkSpec, generic any) error {
	values, ok := generic.(map[string]any)
	if !ok && generic != nil {
		return invalidLabel(labelGeneric, generic, "an object of strings")
	}
	options := make(map[string]string, len(values))
	for key, value := range values {
		if options[key], ok = value.(string); !ok {
			return invalidLabel(key, value, "a string")
		}
	}
	parsed, err := driver.ParseNetworkOptions(options)
	if err != nil {
		return err
	}
	spec.Bridge, spec.MTU, spec.Multicast = parsed.Bridge, parsed.MTU, parsed.Multicast
	spec.Firewall, spec.Guard = parsed.Firewall, parsed.Guard
	return nil
}

func invalidLabel(key string, value any, want string) error {
	return fmt.Errorf("%w: option %s: %q: want %s", driver.ErrInvalid, key, fmt.Sprint(value), want)
}

func unknownOption(key string, value any, reason string) error {
	return fmt.Errorf("%w: unknown option %s=%q: %s", driver.ErrInvalid, key, fmt.Sprint(value), reason)
}

func boolLabel(key string, value any) (bool, error) {
	switch value {
	case true, "true":
		return true, nil
	case false, "false":
		return false, nil
	}
	return false, invalidLabel(key, value, "true or false")
}

// networkPool reads a subnet of the request. Docker leaves the pool out where a network has none: the Pool is then
// zero.
func networkPool(data *network.IPAMData) (driver.Pool, error) {
	if data == nil || data.Pool == "" {
		return driver.Pool{}, nil
	}
	subnet, err := netip.ParsePrefix(data.Pool)
	if err != nil || subnet.Addr().Is4In6() {
		return driver.Pool{}, fmt.Errorf("%w: pool %q: want a subnet such as 10.32.0.0/22",
			driver.ErrInvalid, data.Pool)
	}
	pool := driver.Pool{Subnet: subnet.Masked(), Space: data.AddressSpace}
	if data.Gateway != "" {
		if pool.Gateway, err = poolAddress(pool.Subnet, data.Gateway); err != nil {
			return driver.Pool{}, fmt.Errorf("%w: gateway %w", driver.ErrInvalid, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(data.AuxAddresses)) {
		text, _ := data.AuxAddresses[name].(string)
		reserved, err := poolAddress(pool.Subnet, text)
		if err != nil {
			return driver.Pool{}, fmt.Errorf("%w: auxiliary address %s=%w", driver.ErrInvalid, name, err)
		}
		pool.Reserved = append(pool.Reserved, reserved)
	}
	return pool, nil
}

// poolAddress reads an address of a subnet, which Docker sends with the subnet's prefix length.
func poolAddress(subnet netip.Prefix, text string) (netip.Addr, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || !subnet.Contains(p.Addr()) {
		return netip.Addr{}, fmt.Errorf("%q: want an address of %s with its mask", text, subnet)
	}
	return p.Addr(), nil
}

// endpointSpec returns the endpoint that Docker asks for.
func endpointSpec(req *network.CreateEndpointRequest) (driver.EndpointSpec, error) {
	spec := driver.EndpointSpec{ID: driver.EndpointID(req.EndpointID), Network: driver.NetworkID(req.NetworkID)}
	for _, key := range slices.Sorted(maps.Keys(req.Options)) {
		if !strings.HasPrefix(key, labelPrefix) {
			return driver.EndpointSpec{}, unknownOption(key, req.Options[key], "weave has no options for an endpoint")
		}
	}
	if req.Interface == nil {
		return spec, nil
	}
	for _, text := range []string{req.Interface.Address, req.Interface.AddressIPv6} {
		if text == "" {
			continue
		}
		a, err := netip.ParsePrefix(text)
		if err != nil || a.Addr().Is4In6() {
			return driver.EndpointSpec{}, fmt.Errorf("%w: address %q: want one such as 10.32.0.5/22",
				driver.ErrInvalid, text)
		}
		spec.Addresses = append(spec.Addresses, a)
	}
	if req.Interface.MacAddress != "" {
		var err error
		if spec.MAC, err = endpointMAC(req.Interface.MacAddress); err != nil {
			return driver.EndpointSpec{}, err
		}
	}
	return spec, nil
}

// endpointMAC reads a MAC in any form that the standard library knows, since users type them.
func endpointMAC(text string) (mac.Address, error) {
	parsed, err := net.ParseMAC(text)
	if err == nil && len(parsed) == len(mac.Address{}) {
		if a := mac.Address(parsed); a.IsUnicast() && !a.IsZero() {
			return a, nil
		}
	}
	return mac.Address{}, fmt.Errorf(
		"%w: MAC %q: want six bytes such as 02:42:0a:20:00:05, not all zero, the first one even",
		driver.ErrInvalid, text)
}
