// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Docker's options; see libnetwork/netlabel/labels.go and libnetwork/drivers/bridge/labels.go in moby.
//
// Docker adds none to what the user typed for a network but those of its configuration: default-network-opts (from
// Docker 26 on, daemon/network.go) has them by the name of the driver, so that those of the bridge driver never come
// to weave, while those for weave are typed by an administrator for weave, and are treated as if typed for the network.
// One that is typed for the network goes before.
const (
	dockerPrefix         = "com.docker.network."
	bridgePrefixOfDocker = dockerPrefix + "bridge." // those of Docker's bridge driver, which no engine adds by itself
	optionDockerMTU      = dockerPrefix + "driver.mtu"
	optionIfacePrefix    = dockerPrefix + "container_iface_prefix"
	optionMasquerade     = bridgePrefixOfDocker + "enable_ip_masquerade"
)

// What to do instead of options about the way out.
const (
	ownSource = "what leaves has the address of the interface that it leaves by: for another one give " + optionNAT +
		"=no, and a rule of your own that translates"
	routedInstead = "give " + optionNAT + "=no to have packets leave with the containers' own addresses, or " +
		"--internal for a network without a way out"
)

// maxInterfacePrefix is the length in bytes that leaves room for a number of three digits in an interface's name.
const maxInterfacePrefix = maxName - 3

// dockerNetworkOptions are Docker's options of a network. Each is honoured, or passes since it is the engine's to
// honour or asks for what weave does anyway, or is refused with what to do instead: a user who comes from Docker's
// bridge driver must not believe to be protected by what has no effect.
var dockerNetworkOptions = []option[NetworkOptions]{
	{optionDockerMTU, func(out *NetworkOptions, value string) (err error) {
		out.dockerMTU, err = parseMTU(value)
		return err
	}},
	{optionIfacePrefix, func(out *NetworkOptions, value string) error {
		out.InterfacePrefix = value
		return checkInterfacePrefix(value)
	}},

	// Docker 28 and later honour these in the engine, for networks of all drivers (libnetwork/network_unix.go,
	// daemon/network.go); default-network-opts can have them.
	{dockerPrefix + "advertise_addr_nmsgs", engines[NetworkOptions]},
	{dockerPrefix + "advertise_addr_ms", engines[NetworkOptions]},
	{dockerPrefix + "enable_ipv4", engines[NetworkOptions]},
	{dockerPrefix + "enable_ipv6", engines[NetworkOptions]},

	{dockerPrefix + "internal", flag(false, "give --internal to `docker network create`")},
	{dockerPrefix + "host_ipv4", never(ownSource)},
	{dockerPrefix + "host_ipv6", never(ownSource)},
	{bridgePrefixOfDocker + "name", never("give the name with " + optionBridge)},
	{bridgePrefixOfDocker + "default_bridge", flag(false, "only Docker's own network bridge is the default one")},
	{bridgePrefixOfDocker + "enable_icc", flag(true,
		"containers on one network reach each other: give those that must not networks of their own")},
	{optionMasquerade, func(out *NetworkOptions, value string) error {
		on, err := parseBool(value)
		if err == nil && !on {
			out.NAT = NATNone
		}
		return err
	}},
	{bridgePrefixOfDocker + "gateway_mode_ipv4", only("nat", routedInstead)},
	{bridgePrefixOfDocker + "gateway_mode_ipv6", only("nat", routedInstead)},
	{bridgePrefixOfDocker + "host_binding_ipv4", only("0.0.0.0",
		"ports are published on the address that is given with the port: docker run -p 127.0.0.1:80:80")},
	{bridgePrefixOfDocker + "inhibit_ipv4", flag(false, "give "+optionGateway+"=docker, or the address of another "+
		"router: the bridge has no address then")},
	{bridgePrefixOfDocker + "trusted_host_interfaces", only("",
		"nothing enters a network from outside: publish ports with docker run -p")},
}

// dockerEndpointOptions are Docker's options of an endpoint that are text; what an engine itself puts into the request
// is the business of whoever reads the request.
var dockerEndpointOptions = []option[EndpointOptions]{
	// Docker 27 and later honour it in the engine (libnetwork/osl/interface_linux.go).
	{dockerPrefix + "endpoint.sysctls", engines[EndpointOptions]},
	// The container's name, which Docker 29 gives to IPAM.
	{dockerPrefix + "endpoint.name", engines[EndpointOptions]},
	// Before 29.8 Docker takes no name from a plugin (libnetwork/drivers/remote/driver.go), and no call tells which
	// Docker it is.
	{dockerPrefix + "endpoint.ifname", func(*EndpointOptions, string) error {
		return fmt.Errorf("a plugin can't have Docker name an interface: make the network with -o %s=NAME, "+
			"its interfaces are called NAME0, NAME1", optionIfacePrefix)
	}},
}

// engines takes any value: it is for Docker's engine to check it and to honour it.
func engines[T any](*T, string) error { return nil }

// flag takes one value of a boolean, the one that means what weave does anyway.
func flag(taken bool, instead string) func(*NetworkOptions, string) error {
	return func(_ *NetworkOptions, value string) error {
		on, err := parseBool(value)
		if err == nil && on != taken {
			err = fmt.Errorf("weave takes %v only: %s", taken, instead)
		}
		return err
	}
}

// only takes one value, the one that means what weave does anyway.
func only(taken, instead string) func(*NetworkOptions, string) error {
	return func(_ *NetworkOptions, value string) error {
		if value == taken {
			return nil
		}
		return fmt.Errorf("weave takes %q only: %s", taken, instead)
	}
}

// never takes no value.
func never(instead string) func(*NetworkOptions, string) error {
	return func(*NetworkOptions, string) error { return errors.New("weave does not have it: " + instead) }
}

// checkInterfacePrefix checks what Docker is to put before the number in an interface's name.
func checkInterfacePrefix(prefix string) error {
	runes := func(r rune) bool { return !strings.ContainsRune(nameRunes, r) }
	switch {
	case prefix == "" || len(prefix) > maxInterfacePrefix:
		return fmt.Errorf("want 1 to %d bytes", maxInterfacePrefix)
	case slices.Contains([]byte(".-"), prefix[0]) || strings.ContainsFunc(prefix, runes):
		return errors.New("want letters, digits and . _ -, the first one not . or -")
	}
	return nil
}
