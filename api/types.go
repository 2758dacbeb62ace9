// SPDX-License-Identifier: Apache-2.0

// Package api has the types, the queries and a client of weave's API: JSON over HTTP on a Unix socket. The API lists
// what weave tracks and, if asked to, what the kernel really has. For root alone it has a host of the cluster
// forgotten, and nsproc run by hand.
//
// The package imports the standard library only, so a program that uses it links nothing else of weave. The server is
// in the package server below it.
package api

import (
	_ "embed"
	"net/netip"
	"strconv"
	"time"
)

// DefaultSocket is where weave serves the API unless it is told another path.
const DefaultSocket = "/run/weave/weave.sock"

// The paths of version 1. Its types below may gain members; none is renamed, removed or given another meaning.
const (
	PathNetworks  = "/v1/networks"     // []Network
	PathEndpoints = "/v1/endpoints"    // []Endpoint; takes the parameters of Query. See Inspect and RunNsproc
	PathPools     = "/v1/pools"        // []Pool
	PathHosts     = "/v1/hosts"        // []Host; empty without a cluster. DELETE of /v1/hosts/HOST forgets one
	PathCluster   = "/v1/cluster"      // Cluster, as the status has it; null without a cluster
	PathStatus    = "/v1/status"       // Status
	PathEvents    = "/v1/events"       // Event after Event; takes the parameters of EventQuery
	PathOpenAPI   = "/v1/openapi.json" // OpenAPI
)

// PathMetrics is where Prometheus reads metrics, in its text format. Their names are kept as the API's types are.
const PathMetrics = "/metrics"

// OpenAPI describes the whole API, as OpenAPI 3.0 has it: for programs in other languages than Go.
//
//go:embed openapi.json
var OpenAPI []byte

// RequestTimeout is how long the server works on one request. A live listing by nsproc of a hundred containers takes
// over ten seconds on an overloaded machine; a late answer that is complete is better than none.
const RequestTimeout = 30 * time.Second

// Error is the server's reason to refuse a request. It is the body of every answer whose status is not 200.
type Error struct {
	Code    int    `json:"-"` // the HTTP status
	Message string `json:"error"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Network is a network as weave tracks it.
type Network struct {
	ID        string    `json:"id"`             // Docker's
	Name      string    `json:"name,omitempty"` // Docker's; empty while weave has not read it from Docker's API
	Bridge    string    `json:"bridge"`
	Foreign   bool      `json:"foreign"` // the bridge is not weave's: it is used, never changed or deleted
	MTU       int       `json:"mtu"`     // bytes
	Internal  bool      `json:"internal"`
	Multicast bool      `json:"multicast"`
	Gateway   string    `json:"gateway,omitempty"`   // the way out, as works.weave.gateway has it; empty: there is none
	NAT       string    `json:"nat,omitempty"`       // what its own gateway translates: ipv4, ipv6, no; empty: all
	HostApart bool      `json:"hostApart,omitempty"` // containers don't reach the host over their gateway
	Cluster   string    `json:"cluster,omitempty"`   // name of the network of the cluster; empty: it is local
	VNI       uint32    `json:"vni,omitempty"`       // that network's in VXLAN packets
	Subnets   []Subnet  `json:"subnets"`
	Endpoints int       `json:"endpoints"` // how many there are on this host
	Created   time.Time `json:"created"`
}

// Subnet is a subnet of a network.
type Subnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway,omitzero"` // zero: none
}

// String returns the subnet without its gateway.
func (s Subnet) String() string { return s.Subnet.String() }

// EndpointState is how far a container's attachment to a network has come.
type EndpointState string

// The states of an endpoint, in the order in which it passes through them.
const (
	Created EndpointState = "created" // the veth pair is there; no container has it yet
	Joined  EndpointState = "joined"  // Docker has a sandbox for it and is moving the container end there
	Up      EndpointState = "up"      // the container end is up in the sandbox
)

// Endpoint is an endpoint as weave tracks it and, in a live listing, what is really there. On a host of a cluster those
// on other hosts are listed, too, of the networks that this host is on.
type Endpoint struct {
	ID            string         `json:"id"` // Docker's
	NetworkID     string         `json:"networkId"`
	NetworkName   string         `json:"networkName,omitempty"`   // empty while weave has not read it from Docker's API
	ContainerID   string         `json:"containerId,omitempty"`   // likewise
	ContainerName string         `json:"containerName,omitempty"` // likewise
	MAC           string         `json:"mac"`                     // the container end's, colon form, lower case
	Addresses     []netip.Prefix `json:"addresses"`               // IPv4 first
	// Gateway is where the container's packets for the outside go by this network: to addresses, IPv4 first, or to
	// "docker", which is docker_gwbridge or another network of Docker's, with an address for IPv6 if there is one.
	// Empty: nowhere, or by another network of weave's.
	Gateway string        `json:"gateway,omitempty"`
	Bridge  string        `json:"bridge,omitempty"`
	HostEnd string        `json:"hostEnd,omitempty"` // name of the veth end that is a port of the bridge
	Sandbox string        `json:"sandbox,omitempty"` // a path; empty before Docker has given one
	State   EndpointState `json:"state,omitempty"`
	Created time.Time     `json:"created,omitzero"`

	// Of one on another host nothing is known of what is there: no Gateway to Created.
	Host   string `json:"host,omitempty"`   // name of the host that it is on; empty: this one, which is in no cluster
	Remote bool   `json:"remote,omitempty"` // that is another host
	Stale  bool   `json:"stale,omitempty"`  // etcd does not answer: it was so at Cluster.LastContact, or before

	Live  *Live   `json:"live,omitempty"` // in a live listing only
	Drift []Drift `json:"drift,omitzero"` // in a live listing only, where empty means none
}

// Source is who looks into the sandboxes for a live listing.
type Source string

// The sources of a live listing.
const (
	Kernel Source = "kernel" // the kernel, from the host, by namespace id; nsproc where the kernel refuses
	Nsproc Source = "nsproc" // nsproc, a process that runs in each sandbox
)

// Live is what is really there of an endpoint.
type Live struct {
	Source    Source         `json:"source"`          // who looked, which may differ from who was to: see Kernel
	Error     string         `json:"error,omitempty"` // why the sandbox could not be looked into
	Bridge    string         `json:"bridge,omitempty"`
	Name      string         `json:"name,omitempty"` // of the container end; empty: it was not found in the sandbox
	MAC       string         `json:"mac,omitempty"`
	Addresses []netip.Prefix `json:"addresses,omitempty"` // link-local ones included
	Up        bool           `json:"up"`
}

// DriftKind is the way in which an endpoint differs from what weave tracks.
type DriftKind string

// The kinds of drift.
const (
	HostEndMissing      DriftKind = "host-end-missing"
	HostEndDown         DriftKind = "host-end-down"
	HostEndBlocked      DriftKind = "host-end-blocked" // the port does not forward, is isolated, or its qdisc drops
	BridgeDown          DriftKind = "bridge-down"
	WrongBridge         DriftKind = "wrong-bridge"          // the host end is a port of another bridge, or of none
	SandboxUnreadable   DriftKind = "sandbox-unreadable"    // the sandbox could not be looked into, or is gone
	ContainerEndMissing DriftKind = "container-end-missing" // the sandbox is there, the container end isn't in it
	ContainerEndDown    DriftKind = "container-end-down"
	MACChanged          DriftKind = "mac-changed"
	AddressMissing      DriftKind = "address-missing"
	AddressUnexpected   DriftKind = "address-unexpected"
	RouteMissing        DriftKind = "route-missing" // a default route; an event tells it, no live listing
	NotObserved         DriftKind = "not-observed"  // the endpoint was not looked at, so nothing is known of it
)

// Drift is one difference between what weave tracks and what is there.
type Drift struct {
	Kind   DriftKind `json:"kind"`
	Text   string    `json:"text"`             // for people
	Advice string    `json:"advice,omitempty"` // what to do; in an Inspection only
}

// String returns the text.
func (d Drift) String() string { return d.Text }

// Pool is a subnet out of which weave's IPAM hands out addresses on this host, or, to weave's networks, Docker's own.
type Pool struct {
	Subnet      netip.Prefix `json:"subnet"`
	Range       netip.Prefix `json:"range,omitzero"`        // the part that addresses are picked from; zero: all
	Gateway     netip.Addr   `json:"gateway,omitzero"`      // of its network; zero: none
	Space       string       `json:"space"`                 // IPAM's address space
	NetworkID   string       `json:"networkId,omitempty"`   // empty: no network of weave's has it
	NetworkName string       `json:"networkName,omitempty"` // empty while weave has not read it from Docker's API
	Cluster     string       `json:"cluster,omitempty"`     // network of the cluster that it is of; empty: it is local
	Docker      bool         `json:"docker,omitempty"`      // Docker's own IPAM hands out the addresses
	Holders     []Holder     `json:"holders"`               // by name; this host is always one
	Error       string       `json:"error,omitempty"`       // why others than this host are not known
}

// Holder is a host that hands out addresses of a pool: of a local one this host has all.
type Holder struct {
	Host      string         `json:"host,omitempty"`   // its name; empty: this host, which is in no cluster
	HostID    string         `json:"hostId,omitempty"` // of its weave's state; empty likewise
	Self      bool           `json:"self"`             // it is this host
	Blocks    []netip.Prefix `json:"blocks"`           // single addresses as prefixes of full length
	Addresses uint64         `json:"addresses"`        // how many these have, at most 2^64-1
	Endpoints int            `json:"endpoints"`        // that this host knows of there, with an address of the pool
}

// Host is a host of the cluster as this one sees it: what it has read of etcd last.
type Host struct {
	ID        string     `json:"id"`                 // of its weave's state
	Name      string     `json:"name"`               // its hostname
	Address   netip.Addr `json:"address"`            // its VTEP: where it takes VXLAN packets
	Self      bool       `json:"self"`               // it is this host
	Present   bool       `json:"present"`            // it has told etcd in time that it is there
	Since     time.Time  `json:"since"`              // when it registered, by its own clock: when its weave started
	GoneSince time.Time  `json:"goneSince,omitzero"` // when this host noticed; zero: it is present, or that was before
	Endpoints int        `json:"endpoints"`          // that this host knows of there, on networks that both are on
	Tunnel    *Tunnel    `json:"tunnel,omitempty"`   // from here to there and back; nil: it has not been probed
}

// Tunnel is what probes say of the way between this host and another one that it has networks in common with.
type Tunnel struct {
	Since     time.Time `json:"since"`                      // it has been so since then
	Probed    time.Time `json:"probed"`                     // when this was seen last
	RoundTrip float64   `json:"roundTripSeconds,omitempty"` // of a small frame there and back; zero: none has come back
	// Fault is empty if all frames pass. Otherwise it is family, port, address, blocked, blocked-out, mtu-out, mtu-in,
	// checksum-out, checksum-in or loss; there may be others in future. Out is the direction from this host to the
	// other one.
	Fault string `json:"fault,omitempty"`
	Text  string `json:"text,omitempty"` // the fault for people, and what to do
}

// String returns the fault, or how long a frame takes if there is none.
func (t Tunnel) String() string {
	if t.Fault != "" {
		return t.Fault
	}
	return "ok " + strconv.FormatFloat(t.RoundTrip*1000, 'f', 1, 64) + "ms"
}

// Status is how weave itself is doing.
type Status struct {
	Version   string         `json:"version"`
	Commit    string         `json:"commit,omitempty"`
	StateID   string         `json:"stateId"` // the state's own id, which the links and rules made for it carry
	PID       int            `json:"pid"`
	Started   time.Time      `json:"started"`
	Uptime    float64        `json:"uptimeSeconds"`
	Store     string         `json:"store"`  // path of the state
	Ranges    []netip.Prefix `json:"ranges"` // from which networks without a subnet of their own get one
	Networks  int            `json:"networks"`
	Endpoints EndpointCounts `json:"endpoints"`
	Docker    Docker         `json:"docker"`
	Cluster   *Cluster       `json:"cluster,omitempty"`   // nil: this host is in none
	Reconcile *Reconcile     `json:"reconcile,omitempty"` // the last one; nil: none has ended yet
	Warnings  []string       `json:"warnings"`            // what somebody should look at
	Repairs   []Repair       `json:"repairs,omitempty"`   // the last ones while weave ran, oldest first
}

// Repair is what another program had changed in the kernel, and weave has put right while it ran.
type Repair struct {
	Time      time.Time `json:"time"`
	NetworkID string    `json:"networkId"`
	Subject   string    `json:"subject"`      // the link: "bridge wv-..."
	What      string    `json:"what"`         // what was wrong: "down, mtu 1400, not 1500"
	By        string    `json:"by,omitempty"` // the program; empty where the kernel does not tell
}

// EndpointCounts is how many endpoints are in each state.
type EndpointCounts struct {
	Created int `json:"created"`
	Joined  int `json:"joined"`
	Up      int `json:"up"`
}

// Docker is whether weave can read Docker's API, from which it has all names. Networks work without it.
type Docker struct {
	Reachable bool     `json:"reachable"`
	Error     string   `json:"error,omitempty"`   // why not
	Drivers   []string `json:"drivers,omitempty"` // names of weave in Docker, for docker network create -d
}

// Cluster is how this host is in a cluster.
type Cluster struct {
	Etcd        []string   `json:"etcd"`                 // URLs of its members
	LastContact time.Time  `json:"lastContact,omitzero"` // when it has answered last, ever; zero: not yet
	Error       string     `json:"error,omitempty"`      // why it does not answer; empty: it does
	Address     netip.Addr `json:"address"`              // VTEP of this host
	Port        uint16     `json:"port"`                 // UDP, for VXLAN packets; the same on all hosts
	Hosts       int        `json:"hosts"`                // how many are present
	Probed      int        `json:"probed"`               // to how many of them the tunnel has been probed
	Faulty      int        `json:"faulty"`               // to how many of these it has a fault
}

// Reconcile is the outcome of one comparison of the state with the kernel.
type Reconcile struct {
	Ended   time.Time `json:"ended"`
	Took    float64   `json:"tookSeconds"`
	Actions []string  `json:"actions"`         // what was recreated or removed
	Error   string    `json:"error,omitempty"` // what could not be, and is not as it should be still
}
