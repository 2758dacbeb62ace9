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
	labelEnableIPv6 = labelPrefix + "enable_ipv6"

	// Of an endpoint.
	labelPortMap      = labelPrefix + "portmap"               // of docker run -p
	labelExposedPorts = labelPrefix + "endpoint.exposedports" // of docker run --expose and of the image
)

// engineEndpointLabels are what Docker puts into the request for an endpoint without a user's having typed it as an
// option. All engines from 20.10 on do so (daemon/network.go, libnetwork/endpoint.go).
var engineEndpointLabels = []string{
	labelPortMap, labelExposedPorts,
	labelPrefix + "endpoint.macaddress", // base64; the interface of the request has it as text
	labelPrefix + "endpoint.dnsservers",
}

// networkSpec returns the network that Docker asks for. Malformed options are ErrInvalid; those that are unknown or
// have no effect refuse the network (see driver.NetworkSpec), except unknown ones with Docker's prefix, which are
// returned.
func networkSpec(req *network.CreateNetworkRequest) (_ driver.NetworkSpec, unknown []string, _ error) {
	spec := driver.NetworkSpec{Definition: driver.Definition{ID: driver.NetworkID(req.NetworkID)}}
	for _, key := range slices.Sorted(maps.Keys(req.Options)) {
		var err error
		switch value := req.Options[key]; {
		case key == labelGeneric:
			var passed []string
			passed, err = addUserOptions(&spec, value)
			unknown = append(unknown, passed...)
		case key == labelInternal:
			spec.Internal, err = boolLabel(key, value)
		case key == labelEnableIPv4: // first sent by Docker 28, which is also the first that announces addresses itself
			spec.Announced = true
		case key == labelEnableIPv6: // the subnets tell
		case strings.HasPrefix(key, labelPrefix):
			unknown = append(unknown, key)
		default:
			err = unknownOption(key, value, "weave has no such option for a network")
		}
		if err != nil {
			return driver.NetworkSpec{}, nil, err
		}
	}
	for _, data := range slices.Concat(req.IPv4Data, req.IPv6Data) {
		pool, err := networkPool(data)
		if err != nil {
			return driver.NetworkSpec{}, nil, err
		}
		if pool.Subnet.IsValid() {
			spec.Pools = append(spec.Pools, pool)
		}
	}
	return spec, unknown, nil
}

// addUserOptions reads what the user typed with `docker network create -o`.
func addUserOptions(spec *driver.NetworkSpec, generic any) (unknown []string, _ error) {
	values, ok := generic.(map[string]any)
	if !ok && generic != nil {
		return nil, invalidLabel(labelGeneric, generic, "an object of strings")
	}
	options := make(map[string]string, len(values))
	for key, value := range values {
		if options[key], ok = value.(string); !ok {
			return nil, invalidLabel(key, value, "a string")
		}
	}
	parsed, refused := driver.ParseNetworkOptions(options)
	if err := refused.Unread(); err != nil {
		return nil, err
	}
	spec.Refused = refused.Err()
	spec.SetOptions(parsed)
	return refused.Unknown, nil
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

// endpointSpec returns the endpoint that Docker asks for, and the names of options as networkSpec does.
func endpointSpec(req *network.CreateEndpointRequest) (_ driver.EndpointSpec, unknown []string, _ error) {
	spec := driver.EndpointSpec{ID: driver.EndpointID(req.EndpointID), Network: driver.NetworkID(req.NetworkID)}
	options, unknown, err := endpointOptions(req.Options)
	if err != nil {
		return driver.EndpointSpec{}, nil, err
	}
	spec.Router = options.Router
	if req.Interface == nil {
		return spec, unknown, nil
	}
	for _, text := range []string{req.Interface.Address, req.Interface.AddressIPv6} {
		if text == "" {
			continue
		}
		a, err := netip.ParsePrefix(text)
		if err != nil || a.Addr().Is4In6() {
			return driver.EndpointSpec{}, nil, fmt.Errorf("%w: address %q: want one such as 10.32.0.5/22",
				driver.ErrInvalid, text)
		}
		spec.Addresses = append(spec.Addresses, a)
	}
	if req.Interface.MacAddress != "" {
		if spec.MAC, err = endpointMAC(req.Interface.MacAddress); err != nil {
			return driver.EndpointSpec{}, nil, err
		}
	}
	return spec, unknown, nil
}

// endpointOptions reads what the user typed for an endpoint out of what Docker sends, which has entries of its own in
// the same place.
func endpointOptions(sent map[string]any) (_ driver.EndpointOptions, unknown []string, _ error) {
	options := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(sent)) {
		text, isText := sent[key].(string)
		switch {
		case slices.Contains(engineEndpointLabels, key):
		case isText:
			options[key] = text
		case strings.HasPrefix(key, labelPrefix): // no user's: what users type is text
			unknown = append(unknown, key)
		default:
			return driver.EndpointOptions{}, nil, invalidLabel(key, sent[key], "a string")
		}
	}
	parsed, refused := driver.ParseEndpointOptions(options)
	return parsed, append(unknown, refused.Unknown...), refused.Err()
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
