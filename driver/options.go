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

// Options of `docker network create -o`.
const (
	optionBridge    = "works.weave.bridge"
	optionFirewall  = "works.weave.firewall"
	optionGuard     = "works.weave.guard"
	optionMTU       = "works.weave.mtu"
	optionMulticast = "works.weave.multicast"
	optionDockerMTU = dockerPrefix + "driver.mtu" // Docker's own name for optionMTU
)

// dockerPrefix begins the names of Docker's own options. They are accepted whether weave knows them or not, since
// Docker adds some from its configuration.
const dockerPrefix = "com.docker.network."

// networkOptions are weave's own options.
var networkOptions = []string{optionBridge, optionFirewall, optionGuard, optionMTU, optionMulticast}

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
}

// ParseNetworkOptions reads the options that a user typed. An unknown or malformed one is ErrInvalid, and its message
// has the name, the value and what is accepted.
func ParseNetworkOptions(options map[string]string) (NetworkOptions, error) {
	var out NetworkOptions
	var dockerMTU int
	for _, key := range slices.Sorted(maps.Keys(options)) {
		value := options[key]
		var err error
		switch {
		case key == optionBridge:
			if err := checkBridgeName(value); err != nil {
				return NetworkOptions{}, invalidOption(key, value, err.Error())
			}
			out.Bridge = value
		case key == optionFirewall:
			out.Firewall, err = parseFirewall(key, value)
		case key == optionGuard:
			out.Guard, err = parseGuard(key, value)
		case key == optionMTU:
			out.MTU, err = parseMTU(key, value)
		case key == optionDockerMTU:
			dockerMTU, err = parseMTU(key, value)
		case key == optionMulticast:
			out.Multicast, err = parseBool(key, value)
		case !strings.HasPrefix(key, dockerPrefix):
			err = fmt.Errorf("%w: unknown option %s=%q: weave takes %s",
				ErrInvalid, key, value, strings.Join(networkOptions, ", "))
		}
		if err != nil {
			return NetworkOptions{}, err
		}
	}
	if out.MTU != 0 && dockerMTU != 0 && out.MTU != dockerMTU {
		return NetworkOptions{}, fmt.Errorf("%w: options %s=%d and %s=%d mean the same: give one of them",
			ErrInvalid, optionMTU, out.MTU, optionDockerMTU, dockerMTU)
	}
	out.MTU = cmp.Or(out.MTU, dockerMTU)
	return out, nil
}

func invalidOption(key, value, want string) error {
	return fmt.Errorf("%w: option %s: %q: %s", ErrInvalid, key, value, want)
}

func parseMTU(key, value string) (int, error) {
	mtu, err := strconv.Atoi(value)
	if err != nil || mtu < MinMTU || mtu > MaxMTU {
		return 0, invalidOption(key, value, fmt.Sprintf("want %d..%d", MinMTU, MaxMTU))
	}
	return mtu, nil
}

func parseFirewall(key, value string) (Firewall, error) {
	switch f := Firewall(value); f {
	case FirewallHost, FirewallNone:
		return f, nil
	}
	return "", invalidOption(key, value, fmt.Sprintf("want %s or %s", FirewallNone, FirewallHost))
}

func parseGuard(key, value string) (Guard, error) {
	on, err := parseBool(key, value)
	switch {
	case err != nil:
		return "", err
	case on:
		return GuardOn, nil
	}
	return GuardOff, nil
}

func parseBool(key, value string) (bool, error) {
	switch value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, invalidOption(key, value, "want true or false")
}
