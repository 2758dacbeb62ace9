package driver

import (
	"fmt"
	"regexp"
	"strings"
)

// Interface names hold 15 bytes (IFNAMSIZ less the terminating zero).
const maxName = 15

const (
	bridgePrefix       = "wv-"
	hostEndPrefix      = "wve-"
	containerEndPrefix = "wvc-"
)

// idPattern is what an id of Docker's (64 hexadecimal digits) and of Swarm's (25 letters and digits) have in common.
var idPattern = regexp.MustCompile(`^[a-zA-Z0-9]{12,64}$`)

// ParseNetworkID returns s as the id of a network. The error is ErrInvalid.
func ParseNetworkID(s string) (NetworkID, error) { return NetworkID(s), NetworkID(s).check() }

// ParseEndpointID returns s as the id of an endpoint. The error is ErrInvalid.
func ParseEndpointID(s string) (EndpointID, error) { return EndpointID(s), EndpointID(s).check() }

func (id NetworkID) check() error  { return checkID("network", string(id)) }
func (id EndpointID) check() error { return checkID("endpoint", string(id)) }

func checkID(what, id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%w: %s id %.80q: want 12 to 64 letters and digits", ErrInvalid, what, id)
	}
	return nil
}

func bridgeName(id NetworkID) string        { return linkName(bridgePrefix, string(id)) }
func hostEndName(id EndpointID) string      { return linkName(hostEndPrefix, string(id)) }
func containerEndName(id EndpointID) string { return linkName(containerEndPrefix, string(id)) }

// linkName is prefix and as much of id as an interface name holds.
func linkName(prefix, id string) string { return prefix + id[:min(len(id), maxName-len(prefix))] }

// dockerBridge is what Docker calls the bridges of its networks.
var dockerBridge = regexp.MustCompile(`^br-[0-9a-f]{12}$`)

// ownName reports whether a link's name is one that weave gives by itself.
func ownName(name string) bool {
	return strings.HasPrefix(name, bridgePrefix) || strings.HasPrefix(name, hostEndPrefix) || strings.HasPrefix(name, containerEndPrefix)
}

const nameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// checkBridgeName checks a bridge name that the user chose, by the rules of the kernel (dev_valid_name) and so that it
// can't be taken for a name that weave makes or for an option of iptables, which would also read a final + as a wildcard.
func checkBridgeName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("want 1 to %d bytes", maxName)
	case strings.HasPrefix(name, ".") || strings.HasPrefix(name, "-"):
		return fmt.Errorf("not a name for an interface")
	case strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(nameRunes, r) }):
		return fmt.Errorf("want letters, digits and . _ -")
	case name == "docker0" || name == "docker_gwbridge" || dockerBridge.MatchString(name):
		return fmt.Errorf("it is Docker's own, and weave's rule for it would undo Docker's isolation")
	case ownName(name):
		return fmt.Errorf("the prefixes %s, %s and %s are weave's own", bridgePrefix, hostEndPrefix, containerEndPrefix)
	}
	return nil
}

// The alias of a kernel object says which state it belongs to and what it is for, so that reconciliation knows its own.
const aliasPrefix = "weave:"

func networkAlias(stateID string, id NetworkID) string {
	return aliasPrefix + stateID + ":network:" + string(id)
}

func endpointAlias(stateID string, id EndpointID) string {
	return aliasPrefix + stateID + ":endpoint:" + string(id)
}

// ownAlias reports whether alias marks an object of the state with this id.
func ownAlias(stateID, alias string) bool { return strings.HasPrefix(alias, aliasPrefix+stateID+":") }
