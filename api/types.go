// Package api is weave's listing API: JSON over HTTP on weave's own unix socket, with its server and its client. It
// tells what weave tracks, and beside it what is really there; it changes nothing.
//
// All of it runs in the host's network namespace; what is inside a sandbox it learns from the driver.
package api

import (
	"net/netip"
	"time"

	"github.com/weaveplugin/weave/driver"
)

// DefaultSocket is where the API is served unless another path is given.
const DefaultSocket = "/run/weave/weave.sock"

// The paths of version 1. Its types below may gain members; none is renamed, removed or given another meaning.
const (
	PathNetworks  = "/v1/networks"  // []Network
	PathEndpoints = "/v1/endpoints" // []Endpoint; takes the parameters of Query
	PathStatus    = "/v1/status"    // Status
)

// Network is a network as weave tracks it.
type Network struct {
	ID        string    `json:"id"`             // Docker's
	Name      string    `json:"name,omitempty"` // Docker's; empty while Docker's API has not told it
	Bridge    string    `json:"bridge"`
	Foreign   bool      `json:"foreign"` // the bridge is not weave's: it is used, never changed, never deleted
	MTU       int       `json:"mtu"`     // bytes
	Internal  bool      `json:"internal"`
	Multicast bool      `json:"multicast"`
	Subnets   []Subnet  `json:"subnets"`
	Endpoints int       `json:"endpoints"` // how many there are on this host
	Created   time.Time `json:"created"`
}

// Subnet is a subnet of a network.
type Subnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"`
}

// String returns the subnet without its gateway.
func (s Subnet) String() string { return s.Subnet.String() }

// Endpoint is an endpoint as weave tracks it and, in a live listing, what is really there.
type Endpoint struct {
	ID            string               `json:"id"` // Docker's
	NetworkID     string               `json:"networkId"`
	NetworkName   string               `json:"networkName,omitempty"`   // empty while Docker's API has not told it
	ContainerID   string               `json:"containerId,omitempty"`   // likewise
	ContainerName string               `json:"containerName,omitempty"` // likewise
	MAC           string               `json:"mac"`
	Addresses     []netip.Prefix       `json:"addresses"` // IPv4 first
	Bridge        string               `json:"bridge"`
	HostEnd       string               `json:"hostEnd"`
	Sandbox       string               `json:"sandbox,omitempty"` // a path; empty before Docker has given one
	State         driver.EndpointState `json:"state"`
	Created       time.Time            `json:"created"`

	Live  *Live   `json:"live,omitempty"` // in a live listing only
	Drift []Drift `json:"drift,omitzero"` // in a live listing only, where empty means none
}

// Live is what is really there of an endpoint.
type Live struct {
	Source    driver.Source  `json:"source"`          // who answered
	Error     string         `json:"error,omitempty"` // why the sandbox could not be looked into
	Bridge    string         `json:"bridge,omitempty"`
	Name      string         `json:"name,omitempty"` // the container end's in the sandbox; empty: it was not found there
	MAC       string         `json:"mac,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"` // link-local ones included
	Up        bool           `json:"up"`
}

// Drift is one difference between what weave tracks and what is there.
type Drift struct {
	Kind DriftKind `json:"kind"`
	Text string    `json:"text"` // for people
}

// String returns the text.
func (d Drift) String() string { return d.Text }

// Status is how weave itself is doing.
type Status struct {
	Version   string         `json:"version"`
	Commit    string         `json:"commit,omitempty"`
	StateID   string         `json:"stateId"` // the state's own id, which kernel objects made for it carry
	PID       int            `json:"pid"`
	Started   time.Time      `json:"started"`
	Uptime    float64        `json:"uptimeSeconds"`
	Store     string         `json:"store"`  // path or URL of the state
	Ranges    []netip.Prefix `json:"ranges"` // out of which networks without a subnet get one
	Networks  int            `json:"networks"`
	Endpoints EndpointCounts `json:"endpoints"`
	Docker    Docker         `json:"docker"`
	Reconcile *Reconcile     `json:"reconcile,omitempty"` // the last one; nil: none has ended yet
	Warnings  []string       `json:"warnings"`            // what somebody should look at
}

// EndpointCounts is how many endpoints are in each state.
type EndpointCounts struct {
	Created int `json:"created"`
	Joined  int `json:"joined"`
	Up      int `json:"up"`
}

// Docker is whether Docker's API, where names come from, can be read, and what Docker calls weave. Networks work without it.
type Docker struct {
	Reachable bool     `json:"reachable"`
	Error     string   `json:"error,omitempty"`   // why not
	Drivers   []string `json:"drivers,omitempty"` // under which Docker knows weave, for docker network create -d
}

// Reconcile is the outcome of one comparison of the state with the kernel.
type Reconcile struct {
	Ended   time.Time `json:"ended"`
	Took    float64   `json:"tookSeconds"`
	Actions []string  `json:"actions"`         // what was recreated or removed
	Error   string    `json:"error,omitempty"` // what could not be
}
