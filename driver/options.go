// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Options of `docker network create -o`, and optionRouter of an endpoint (`docker run --network name=NETWORK,driver-opt=…`).
const (
	optionBridge    = "works.weave.bridge"
	optionFirewall  = "works.weave.firewall"
	optionGuard     = "works.weave.guard"
	optionMTU       = "works.weave.mtu"
	optionMulticast = "works.weave.multicast"
	optionRouter    = "works.weave.router"
)

// Bounds of an MTU in bytes: the least that IPv4 (RFC 791) and IPv6 (RFC 8200) work with, and the most that a veth can
// have.
const (
	MinMTU     = 68
	MaxMTU     = 65535
	minMTUIPv6 = 1280
)

// NetworkOptions are what a user sets with `docker network create -o`.
type NetworkOptions struct {
	Bridge    string // name of the bridge; empty: not set
	MTU       int    // bytes; 0: not set
	Multicast bool
	Firewall  Firewall // empty: not set
	Guard     Guard    // empty: not set
	Prefix    string   // of the names of container ends in their sandboxes; empty: not set

	dockerMTU int // bytes, by Docker's own name of the option; 0: not set
}

// EndpointOptions are what a user sets for an endpoint.
type EndpointOptions struct {
	Router bool // it may send router advertisements and DHCP answers
}

// networkOptions are weave's own options of a network.
var networkOptions = map[string]func(o *NetworkOptions, value string) error{
	optionBridge: func(o *NetworkOptions, value string) error {
		o.Bridge = value
		return checkBridgeName(value)
	},
	optionFirewall: func(o *NetworkOptions, value string) (err error) {
		o.Firewall, err = parseFirewall(value)
		return err
	},
	optionGuard: func(o *NetworkOptions, value string) error {
		on, err := parseBool(value)
		if o.Guard = GuardOff; on {
			o.Guard = GuardOn
		}
		return err
	},
	optionMTU: func(o *NetworkOptions, value string) (err error) {
		o.MTU, err = parseMTU(value)
		return err
	},
	optionMulticast: func(o *NetworkOptions, value string) (err error) {
		o.Multicast, err = parseBool(value)
		return err
	},
}

// endpointOptions are weave's own options of an endpoint.
var endpointOptions = map[string]func(o *EndpointOptions, value string) error{
	optionRouter: func(o *EndpointOptions, value string) (err error) {
		o.Router, err = parseBool(value)
		return err
	},
}

// ParseNetworkOptions reads the options that a user typed. An unknown or malformed one is ErrInvalid, and its message
// has the name, the value and what is accepted.
func ParseNetworkOptions(options map[string]string) (NetworkOptions, error) {
	out, refused := ReadNetworkOptions(options)
	if len(refused) > 0 {
		return NetworkOptions{}, refused[0]
	}
	return out, nil
}

// ReadNetworkOptions reads the options of a network that is there already. An earlier version of weave may have
// accepted some that ParseNetworkOptions refuses; they are left out, and the reasons returned.
func ReadNetworkOptions(options map[string]string) (out NetworkOptions, refused []error) {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		value := options[key]
		var err error
		set, own := networkOptions[key]
		switch {
		case own:
			if err = set(&out, value); err != nil {
				err = invalidOption(key, value, err)
			}
		case strings.HasPrefix(key, dockerPrefix):
			err = out.setDocker(key, value)
		default:
			err = unknownOption(key, value, networkOptions)
		}
		if err != nil {
			refused = append(refused, err)
		}
	}
	if out.MTU != 0 && out.dockerMTU != 0 && out.MTU != out.dockerMTU {
		refused = append(refused, fmt.Errorf("%w: options %s=%d and %s=%d mean the same: give one of them",
			ErrInvalid, optionMTU, out.MTU, optionDockerMTU, out.dockerMTU))
	}
	out.MTU, out.dockerMTU = cmp.Or(out.MTU, out.dockerMTU), 0
	return out, refused
}

// ParseEndpointOptions reads the options that a user typed for an endpoint. An unknown or malformed one is ErrInvalid.
// Docker's own are refused if they ask for something that weave can't do.
func ParseEndpointOptions(options map[string]string) (out EndpointOptions, err error) {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		value := options[key]
		set, own := endpointOptions[key]
		switch {
		case own:
			if err := set(&out, value); err != nil {
				return EndpointOptions{}, invalidOption(key, value, err)
			}
		case key == optionIfname:
			return EndpointOptions{}, fmt.Errorf("%w: option %s=%s: Docker does not let a plugin name an interface: "+
				"give the network a prefix for its interfaces instead (docker network create -o %s=lan)",
				ErrInvalid, key, value, optionPrefix)
		case !strings.HasPrefix(key, dockerPrefix):
			return EndpointOptions{}, unknownOption(key, value, endpointOptions)
		}
	}
	return out, nil
}

func invalidOption(key, value string, want error) error {
	return fmt.Errorf("%w: option %s: %q: %w", ErrInvalid, key, value, want)
}

func unknownOption[T any](key, value string, known map[string]T) error {
	return fmt.Errorf("%w: unknown option %s=%q: weave takes %s",
		ErrInvalid, key, value, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
}

func parseMTU(value string) (int, error) {
	mtu, err := strconv.Atoi(value)
	if err != nil || mtu < MinMTU || mtu > MaxMTU {
		return 0, fmt.Errorf("want %d..%d", MinMTU, MaxMTU)
	}
	return mtu, nil
}

func parseFirewall(value string) (Firewall, error) {
	switch f := Firewall(value); f {
	case FirewallHost, FirewallNone:
		return f, nil
	}
	return "", fmt.Errorf("want %s or %s", FirewallNone, FirewallHost)
}

// parseBool takes what Weave Net took: the option without a value means yes.
func parseBool(value string) (bool, error) {
	if value == "" {
		return true, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("want true or false")
	}
	return on, nil
}
