// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/internal/mac"
)

// NetworkSpec is what Docker asks CreateNetwork for.
type NetworkSpec struct {
	Definition // MTU, Firewall and Guard: the driver's default if they are zero

	Bridge    string // name that the user chose for the bridge; empty: weave makes one and names it
	Announced bool   // Docker announces new addresses itself, by ARP and neighbour discovery (from version 28 on)
	Swarm     bool   // the network may be one of Swarm's, whose manager picks a gateway where nobody has typed one

	// Refused is why a network that is not there yet is not made, nil if it is. One that is there was accepted by an
	// earlier version: Swarm repeats its request, and containers need it as it is.
	Refused error
}

// SetOptions takes over what the user has typed.
func (spec *NetworkSpec) SetOptions(o NetworkOptions) {
	spec.Bridge, spec.MTU, spec.Multicast, spec.InterfacePrefix = o.Bridge, o.MTU, o.Multicast, o.InterfacePrefix
	spec.Firewall, spec.Guard = o.Firewall, o.Guard
	spec.Gateway, spec.NAT, spec.HostApart, spec.Cluster = o.Gateway, o.NAT, o.HostApart, o.Cluster
}

// bridge is the name of the network's bridge.
func (spec NetworkSpec) bridge() string { return cmp.Or(spec.Bridge, spec.bridgeName()) }

// EndpointSpec is what Docker asks CreateEndpoint for.
type EndpointSpec struct {
	ID        EndpointID
	Network   NetworkID
	MAC       mac.Address    // zero: the driver makes one
	Addresses []netip.Prefix // IPv4 first
	Router    bool           // may send router advertisements and DHCP answers
}

// Ports says what is known of a container's ports.
type Ports int

// Ports, in the order in which Docker's way out is needed for them.
const (
	NoPorts   Ports = iota
	Exposed         // by its image or by --expose: Docker shows them, and proxies go by that
	Published       // by -p
)

// Attachment tells Docker which link to move into the sandbox, and what to call it there.
type Attachment struct {
	Link   string // name of the container end on the host
	Prefix string // of its name in the sandbox; Docker appends the next free number

	// Where the container's default routes lead; zero: there is none. Without one for IPv4 Docker connects the
	// container with the outside over docker_gwbridge, unless NotByDockers.
	Gateway, GatewayIPv6 netip.Addr
	NotByDockers         bool
}

// AdoptedEndpoint is an endpoint that Docker has and the state does not know.
type AdoptedEndpoint struct {
	EndpointSpec
	Sandbox  string       // Docker's SandboxKey; empty: it is in no container now
	Gateways []netip.Addr // that an earlier weave has answered, IPv4 first
	External bool         // Docker has made these the container's way out
}

// check returns ErrInvalid for a malformed spec.
func (spec NetworkSpec) check() error {
	if err := spec.ID.Check(); err != nil {
		return err
	}
	if spec.Bridge != "" {
		if err := checkBridgeName(spec.Bridge); err != nil {
			return invalidOption(optionBridge, spec.Bridge, err.Error())
		}
	}
	if spec.MTU < MinMTU || spec.MTU > MaxMTU {
		return fmt.Errorf("%w: mtu %d: want %d..%d", ErrInvalid, spec.MTU, MinMTU, MaxMTU)
	}
	if spec.hasIPv6() && spec.MTU < minMTUIPv6 {
		return fmt.Errorf("%w: mtu %d: a network with IPv6 needs at least %d", ErrInvalid, spec.MTU, minMTUIPv6)
	}
	for _, p := range spec.Pools {
		if err := p.check(); err != nil {
			return err
		}
	}
	if spec.Gateway == "" { // it is chosen later
		return nil
	}
	return spec.checkGateway()
}

func (p Pool) check() error {
	if !p.Subnet.IsValid() || p.Subnet.Addr().Is4In6() || p.Subnet != p.Subnet.Masked() {
		return fmt.Errorf("%w: pool %s: want a subnet such as 10.32.0.0/22", ErrInvalid, p.Subnet)
	}
	if p.Gateway.IsValid() && !p.Subnet.Contains(p.Gateway) {
		return fmt.Errorf("%w: gateway %s: want an address of %s", ErrInvalid, p.Gateway, p.Subnet)
	}
	for _, a := range p.Reserved {
		if !p.Subnet.Contains(a) {
			return fmt.Errorf("%w: auxiliary address %s: want one of %s", ErrInvalid, a, p.Subnet)
		}
	}
	return nil
}

// matches reports whether the tracked network is what spec asks for. What spec leaves open is what the network was made
// with, even if the default has changed since: Swarm repeats requests.
func (spec NetworkSpec) matches(nw Network) bool {
	asked := spec.Definition
	asked.MTU = cmp.Or(asked.MTU, nw.MTU)
	asked.Firewall = cmp.Or(asked.Firewall, nw.Firewall)
	asked.Guard = cmp.Or(asked.Guard, nw.Guard)
	asked.VNI = nw.VNI // the cluster's choice
	if asked.Cluster == "" && spec.Swarm && nw.Cluster == string(nw.ID) {
		asked.Cluster = nw.Cluster // of spanSwarm
	}
	if asked.Gateway = cmp.Or(asked.Gateway, nw.Gateway); asked.Gateway == GatewayDocker && nw.Gateway == "" {
		asked.Gateway = nw.Gateway
	}
	if asked.Gateway == "" || asked.Gateway == GatewayDocker {
		asked.NAT = nw.NAT // likewise
	}
	asked.InterfacePrefix = nw.InterfacePrefix // earlier versions dropped it, and a network's options never change
	if spec.Gateway = asked.Gateway; spec.bridge() != nw.Bridge {
		return false
	}
	a, err1 := json.Marshal(asked)
	b, err2 := json.Marshal(nw.Definition)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

// check returns ErrInvalid for a malformed spec.
func (spec EndpointSpec) check() error {
	if err := checkIDs(spec.Network, spec.ID); err != nil {
		return err
	}
	if !spec.MAC.IsUnicast() {
		return fmt.Errorf("%w: MAC %s: want a unicast address, whose first byte is even", ErrInvalid, spec.MAC)
	}
	for _, a := range spec.Addresses {
		if !a.IsValid() || a.Addr().Is4In6() {
			return fmt.Errorf("%w: address %s: want one such as 10.32.0.5/22", ErrInvalid, a)
		}
	}
	return nil
}

// matches reports whether the tracked endpoint is what spec asks for.
func (spec EndpointSpec) matches(ep Endpoint) bool {
	sameMAC := spec.MAC.IsZero() || spec.MAC == ep.MAC
	return sameMAC && ep.Network == spec.Network && ep.Router == spec.Router &&
		slices.Equal(ep.Addresses, spec.Addresses)
}

// checkAddresses checks that an endpoint's addresses belong to its network. A network without a subnet of an address's
// family accepts any, and so does one with Docker's null pool (0.0.0.0/0).
func (def Definition) checkAddresses(addresses []netip.Prefix) error {
	for _, a := range addresses {
		sameFamily := func(p Pool) bool { return p.Subnet.Addr().Is4() == a.Addr().Is4() }
		contains := func(p Pool) bool { return p.Subnet.Contains(a.Addr()) }
		if slices.ContainsFunc(def.Pools, sameFamily) && !slices.ContainsFunc(def.Pools, contains) {
			return fmt.Errorf("%w: address %s is in no subnet of network %s", ErrInvalid, a, def.ID)
		}
	}
	return nil
}

// checkIDs checks a network's and an endpoint's id.
func checkIDs(nw NetworkID, ep EndpointID) error {
	if err := nw.Check(); err != nil {
		return err
	}
	return ep.Check()
}
