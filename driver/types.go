package driver

import (
	"net/netip"
	"time"
)

// NetworkID is Docker's id of a network.
type NetworkID string

// EndpointID is Docker's id of an endpoint.
type EndpointID string

// Network is a network as weave tracks it.
type Network struct {
	ID        NetworkID `json:"id"`
	Bridge    string    `json:"bridge"`              // name of its bridge
	Foreign   bool      `json:"foreign,omitempty"`   // the bridge was there before and is not weave's: it is used, never changed, never deleted
	MTU       int       `json:"mtu"`                 // bytes; of the bridge and of both ends of its veth pairs
	Internal  bool      `json:"internal,omitempty"`  // made with --internal: Docker gives it no way out
	Multicast bool      `json:"multicast,omitempty"` // containers get a multicast route out of this network
	Announced bool      `json:"announced,omitempty"` // the engine itself announces new addresses by ARP and neighbour discovery (Docker 28 on)
	Pools     []Pool    `json:"pools"`               // IPv4 first
	Created   time.Time `json:"created"`
}

// Pool is a subnet of a network, as Docker gave it.
type Pool struct {
	Subnet   netip.Prefix `json:"subnet"`
	Gateway  netip.Addr   `json:"gateway,omitzero"`   // zero: none
	Reserved []netip.Addr `json:"reserved,omitempty"` // auxiliary addresses: the user's, for what is no container
	Space    string       `json:"space,omitempty"`    // IPAM address space that it came from
}

// EndpointState is how far an endpoint has come.
type EndpointState string

// An endpoint's states, in the order in which it passes through them.
const (
	Created EndpointState = "created" // the veth pair is there; no container has it yet
	Joined  EndpointState = "joined"  // Docker was told to move the container end into the sandbox
	Up      EndpointState = "up"      // the container end is up in the sandbox: the host end has its carrier
)

// Endpoint is an endpoint as weave tracks it.
type Endpoint struct {
	ID        EndpointID     `json:"id"`
	Network   NetworkID      `json:"network"`
	HostEnd   string         `json:"hostEnd"`             // name of the host end
	MAC       string         `json:"mac"`                 // the container end's, colon form, lower case
	Addresses []netip.Prefix `json:"addresses,omitempty"` // IPv4 first
	Sandbox   string         `json:"sandbox,omitempty"`   // Docker's SandboxKey, a path; empty before Join and after Leave
	State     EndpointState  `json:"-"`                   // follows from Sandbox and from the host end's carrier
	Created   time.Time      `json:"created"`
}
