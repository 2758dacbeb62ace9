// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Names of Docker's own options (libnetwork/netlabel and libnetwork/drivers/bridge in moby).
const (
	dockerPrefix    = "com.docker.network."
	bridgeOption    = dockerPrefix + "bridge."
	optionDockerMTU = dockerPrefix + "driver.mtu" // the same as optionMTU
	optionPrefix    = dockerPrefix + "container_iface_prefix"
	optionIfname    = dockerPrefix + "endpoint.ifname" // of an endpoint
)

// dockerOption is an option of Docker's bridge driver that says how a network is to be. Weave takes the values that
// mean what it does anyway, and refuses the others: who only changes the driver of a network would otherwise be exposed
// without knowing.
type dockerOption struct {
	means  []string // values that are taken
	advice string   // what to do instead of another value
}

var dockerOptions = map[string]dockerOption{
	bridgeOption + "enable_icc": {
		[]string{"true", "1"}, "containers on a weave network reach each other: " +
			"give those that must not a network each, and connect them to what they share",
	},
	bridgeOption + "enable_ip_masquerade": {
		[]string{"true", "1"}, "containers reach the outside over docker_gwbridge, which masquerades: " +
			"make the network with --internal to keep them from it",
	},
	bridgeOption + "host_binding_ipv4": {
		[]string{"0.0.0.0"}, "name the address where the port is published (-p 127.0.0.1:8080:80)",
	},
	bridgeOption + "gateway_mode_ipv4": {
		[]string{"nat"}, "the way out is docker_gwbridge, with NAT: make the network with --internal to have none",
	},
	bridgeOption + "gateway_mode_ipv6": {
		[]string{"nat"}, "weave networks have no way out for IPv6",
	},
	bridgeOption + "inhibit_ipv4": {
		[]string{"true", "1", "false", "0"}, "", // weave's bridges have no address in any case
	},
	bridgeOption + "name": {
		nil, "name the bridge with " + optionBridge,
	},
	dockerPrefix + "host_ipv4": {
		nil, "containers reach the outside with the address that docker_gwbridge gives them",
	},
	dockerPrefix + "host_ipv6": {
		nil, "weave networks have no way out for IPv6",
	},
}

// prefixPattern is what begins the name of a link, to which Docker appends a number; 15 bytes are the most for both.
var prefixPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,10}$`)

// setDocker reads one of Docker's options. Those that are not known pass, except the ones of the bridge driver: a later
// Docker may add others by itself, and then no network could be made, but what is for bridges comes from a user, who
// means something by it. (Docker's default-network-opts are for one driver each, so none comes to weave by accident.)
func (o *NetworkOptions) setDocker(key, value string) error {
	option, known := dockerOptions[key]
	switch {
	case key == optionDockerMTU:
		mtu, err := parseMTU(value)
		if err != nil {
			return invalidOption(key, value, err)
		}
		o.dockerMTU = mtu
	case key == optionPrefix:
		if !prefixPattern.MatchString(value) {
			return invalidOption(key, value, errors.New("want at most 11 letters, digits, '_', '.' and '-'"))
		}
		o.Prefix = value
	case known && slices.Contains(option.means, value):
	case known:
		return fmt.Errorf("%w: option %s=%s: a weave network can't do this: %s", ErrInvalid, key, value, option.advice)
	case strings.HasPrefix(key, bridgeOption):
		return fmt.Errorf("%w: option %s=%s is one of Docker's bridge driver: leave it out", ErrInvalid, key, value)
	}
	return nil
}
