// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weaveplugin/weave/internal/mac"
)

// NetworkID is Docker's id of a network.
type NetworkID string

// EndpointID is Docker's id of an endpoint.
type EndpointID string

// Network is a network as weave tracks it: what defines it, and what this host made of it. Both halves are written as
// one flat JSON record, which is how every version of weave has written them.
type Network struct {
	Definition
	Local
}

// Definition is what defines a network. It is the same on every host that has the network.
type Definition struct {
	ID        NetworkID `json:"id"`
	MTU       int       `json:"mtu"`                 // bytes; of the bridge and of both ends of its veth pairs
	Internal  bool      `json:"internal,omitempty"`  // made with --internal: Docker connects it to nothing outside
	Multicast bool      `json:"multicast,omitempty"` // containers get a multicast route out of this network
	Firewall  Firewall  `json:"firewall,omitempty"`
	Guard     Guard     `json:"guard,omitempty"`
	Gateway   Gateway   `json:"gateway,omitempty"`
	NAT       NAT       `json:"nat,omitempty"`
	HostApart bool      `json:"hostApart,omitempty"` // containers don't reach the host over their gateway
	Pools     []Pool    `json:"pools"`               // IPv4 first

	// Cluster is the name of the network of the cluster that this one is a part of; empty: it is this host's alone.
	Cluster string `json:"cluster,omitempty"`
	VNI     uint32 `json:"vni,omitempty"` // of a network of the cluster; 0: not known yet

	// InterfacePrefix begins the names of the network's interfaces in containers; empty: eth.
	InterfacePrefix string `json:"interfacePrefix,omitempty"`
}

// Local is the part of a network that belongs to this host alone.
type Local struct {
	Bridge    string    `json:"bridge"`              // name of the network's bridge
	Foreign   bool      `json:"foreign,omitempty"`   // the bridge is not weave's: never changed or deleted
	Announced bool      `json:"announced,omitempty"` // Docker itself announces new addresses (see NetworkSpec)
	Created   time.Time `json:"created"`
	Phase     Phase     `json:"phase"`
	Tagged    bool      `json:"-"` // frames are tagged, so that they pass no rule of the host's (see Driver.tags)
}

// Firewall says whose rules apply to the frames inside a network.
type Firewall string

// Whose rules apply.
const (
	FirewallHost Firewall = "host" // the host's: its tables, so that the user's own rules in DOCKER-USER apply
	FirewallNone Firewall = "none" // nobody's: the frames pass no table of the host's
)

// Guard says whether containers are kept from giving their neighbours addresses and routes. The zero Guard is that of
// networks that were made before there were others: router advertisements of containers are dropped, answers of DHCP
// servers pass.
type Guard string

// Guards.
const (
	GuardOn  Guard = "on"  // only endpoints that are routers send router advertisements and DHCP answers
	GuardOff Guard = "off" // every endpoint does
)

// Gateway says which way out of a network containers have. The zero Gateway is GatewayDocker.
type Gateway string

// Ways out. That of a network whose router is somebody else is the router's address, or two, of one family each, or
// container:NAME for a container of the network: its gateways are then addresses of that container.
const (
	GatewayDocker Gateway = "docker" // docker_gwbridge, which Docker attaches beside the network
	GatewayNative Gateway = "native" // the network's own gateway, an address of the bridge
	GatewayAuto   Gateway = "auto"   // native, but for containers with ports, which only docker_gwbridge publishes
)

// NAT says which packets that leave a network by its own gateway have the host's address. The others have the
// container's: routes back are then the business of whoever administers the host's neighbours.
type NAT string

// Kinds of NAT.
const (
	NATAll  NAT = "" // those of both protocols
	NATIPv4 NAT = "ipv4"
	NATIPv6 NAT = "ipv6"
	NATNone NAT = "no"
)

// translates reports whether packets from this address leave with the host's.
func (n NAT) translates(addr netip.Addr) bool {
	return n == NATAll || n == NATIPv4 && addr.Is4() || n == NATIPv6 && addr.Is6()
}

// Pool is a subnet of a network, as Docker gave it.
type Pool struct {
	Subnet   netip.Prefix `json:"subnet"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`   // zero: none
	Reserved []netip.Addr `json:"reserved,omitempty"` // auxiliary addresses, which no container gets
	Space    string       `json:"space,omitempty"`    // IPAM address space that it came from
}

// hasIPv6 reports whether the network has an IPv6 subnet.
func (def Definition) hasIPv6() bool {
	return slices.ContainsFunc(def.Pools, func(p Pool) bool { return p.Subnet.Addr().Is6() })
}

// Phase says how much of what a record names is in the kernel. A record is written as Making before anything is made,
// and as Going before anything is removed, so that a record names whatever a crash leaves.
type Phase string

// The phases of a record.
const (
	Making Phase = "making" // some of it may be there
	Made   Phase = "made"   // all of it is there
	Going  Phase = "going"  // some of it may be gone
)

// Endpoint is an endpoint as weave tracks it.
type Endpoint struct {
	ID        EndpointID     `json:"id"`
	Network   NetworkID      `json:"network"`
	HostEnd   string         `json:"hostEnd"`             // name of the host end
	MAC       mac.Address    `json:"mac"`                 // the container end's
	Addresses []netip.Prefix `json:"addresses,omitempty"` // IPv4 first
	Router    bool           `json:"router,omitempty"`    // may send router advertisements and DHCP answers
	Programs  bool           `json:"programs,omitempty"`  // its host end was made with tc programs (see portOf)
	Sandbox   string         `json:"sandbox,omitempty"`   // Docker's SandboxKey, a path; empty: in no container
	Gateways  []netip.Addr   `json:"gateways,omitempty"`  // that Docker was told at Join, IPv4 first
	External  bool           `json:"external,omitempty"`  // Docker has made these the container's way out
	Claimed   []netip.Addr   `json:"claimed,omitempty"`   // addresses that this host holds for it alone in the cluster
	Carrier   bool           `json:"-"`                   // the host end has its carrier: the container end is up
	Created   time.Time      `json:"created"`
}

// EndpointState says how far an endpoint is on its way into a container.
type EndpointState string

// An endpoint's states, in the order in which it passes through them.
const (
	Created EndpointState = "created" // the veth pair is there; no container has it yet
	Joined  EndpointState = "joined"  // Docker was told to move the container end into the sandbox
	Up      EndpointState = "up"      // the container end is up in the sandbox
)

// State returns the endpoint's state, which follows from its sandbox and its carrier.
func (ep Endpoint) State() EndpointState {
	switch {
	case ep.Sandbox == "":
		return Created
	case ep.Carrier:
		return Up
	}
	return Joined
}

// wayOut says where what an endpoint sends to the outside goes: to gateways, IPv4 first, or over Docker's bridge, by
// GatewayDocker, perhaps with a gateway for IPv6. Empty: nowhere over this network, since it is internal, the endpoint
// is in no container, or the container has its way out from another network.
func (def Definition) wayOut(ep Endpoint) string {
	switch {
	case ep.Sandbox == "" || def.Internal:
		return ""
	case len(ep.Gateways) == 0 && def.replacesDockers() && !def.isRouter(ep):
		return ""
	case len(ep.Gateways) == 0 && def.besideDockers(ep).IsValid():
		return string(GatewayDocker) + "," + def.besideDockers(ep).String()
	case len(ep.Gateways) == 0:
		return string(GatewayDocker)
	case !ep.External && !def.besideDockers(ep).IsValid():
		return ""
	}
	var texts []string
	for _, gateway := range ep.Gateways {
		texts = append(texts, gateway.String())
	}
	return strings.Join(texts, ",")
}

// has reports whether the address is one of the endpoint's.
func (ep Endpoint) has(addr netip.Addr) bool {
	return slices.ContainsFunc(ep.Addresses, func(a netip.Prefix) bool { return a.Addr() == addr })
}
