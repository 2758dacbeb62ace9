// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// maxName is how many bytes the name of a link holds: IFNAMSIZ without the terminating zero.
const maxName = 15

const (
	bridgePrefix       = "wv-"  // of bridges that the host has no address on
	gatewayPrefix      = "wvg-" // of bridges that have the gateway of their network
	hostEndPrefix      = "wve-"
	containerEndPrefix = "wvc-"
	devicePrefix       = "wvx-" // of VXLAN devices
)

// idPattern matches the ids of Docker (64 hexadecimal digits) and of Swarm (25 letters and digits). Links are named
// after the first characters of an id, so it must not be shorter.
var idPattern = regexp.MustCompile(`^[a-zA-Z0-9]{12,64}$`)

// Check returns ErrInvalid if Docker could not give such an id.
func (id NetworkID) Check() error { return checkID("network", string(id)) }

// Check returns ErrInvalid if Docker could not give such an id.
func (id EndpointID) Check() error { return checkID("endpoint", string(id)) }

func checkID(what, id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%w: %s id %.80q: want 12 to 64 letters and digits", ErrInvalid, what, id)
	}
	return nil
}

// bridgeName is the name that weave gives to the network's bridge by itself. Firewall rules for all bridges of a kind
// go by the prefix.
func (def Definition) bridgeName() string {
	if def.hasGateway() {
		return linkName(gatewayPrefix, string(def.ID))
	}
	return bridgeName(def.ID)
}

func bridgeName(id NetworkID) string        { return linkName(bridgePrefix, string(id)) }
func deviceName(id NetworkID) string        { return linkName(devicePrefix, string(id)) }
func hostEndName(id EndpointID) string      { return linkName(hostEndPrefix, string(id)) }
func containerEndName(id EndpointID) string { return linkName(containerEndPrefix, string(id)) }

// linkName returns prefix and as much of id as the name of a link holds.
func linkName(prefix, id string) string { return prefix + id[:min(len(id), maxName-len(prefix))] }

// isOwnName reports whether a link's name is one that weave gives by itself.
func isOwnName(name string) bool {
	return slices.ContainsFunc(ownPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

var ownPrefixes = []string{bridgePrefix, gatewayPrefix, hostEndPrefix, containerEndPrefix, devicePrefix}

// dockerBridge matches the names that Docker gives to bridges of its networks.
var dockerBridge = regexp.MustCompile(`^(docker0|` + WayOut + `|br-[0-9a-f]{12})$`)

const nameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// checkBridgeName checks a bridge name that the user chose. It follows the rules of the kernel (dev_valid_name),
// refuses names that weave makes itself, and those that iptables would read as an option or, with a final +, as a
// wildcard.
func checkBridgeName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("want 1 to %d bytes", maxName)
	case strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-"):
		return errors.New("not a name for an interface")
	case strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(nameRunes, r) }):
		return errors.New("want letters, digits and . _ -")
	case dockerBridge.MatchString(name):
		return errors.New("it is Docker's own, and weave's rule for it would undo Docker's isolation")
	case isOwnName(name):
		return fmt.Errorf("the prefixes %s are weave's own", strings.Join(ownPrefixes, ", "))
	}
	return nil
}
