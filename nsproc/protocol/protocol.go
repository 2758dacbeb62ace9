// SPDX-License-Identifier: Apache-2.0

// Package protocol defines the messages between the plugin, in the host's namespace, and nsproc, the process that it
// starts in a container's network namespace: one request, one reply, both JSON. It imports little, since every start
// of nsproc pays for what it imports.
package protocol

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/weaveplugin/weave/internal/mac"
)

// Version is the version of the messages. A message of another version is an error (ErrVersion), on either side.
const Version = 1

const (
	// NamespaceFD is the descriptor that is open on the sandbox's namespace when nsproc starts. The entry points
	// (entry_amd64.s, entry_arm64.s) have the number as well.
	NamespaceFD = 3
	// SocketsFD is the descriptor, when nsproc starts, of a socket over which it passes others to the plugin; only
	// requests of Names, Packets and Probes come with one.
	SocketsFD = 4
	// RecordFD is the descriptor, when nsproc starts, of the file that it records its messages to the kernel in; only a
	// request that says so comes with one.
	RecordFD = 5
	// MaxRequest is the largest size of a request in bytes. A pipe holds that much, so that writing it never blocks.
	MaxRequest = 4 << 10
	// MaxReply is the largest size of what nsproc writes, in bytes. A link takes some 1,300.
	MaxReply = 16 << 20
	// MaxRecord is the largest size of what is recorded of nsproc's messages, in bytes.
	MaxRecord = 4 << 20
	// Refused is the exit status of nsproc when its Reply has an Error.
	Refused = 3
	// EntryFailed plus the errno is the exit status of nsproc when it could not enter the namespace.
	EntryFailed = 100
)

// Request is what nsproc reads from its standard input. Exactly one of its pointers is set.
type Request struct {
	Version   int        `json:"version"`
	Record    bool       `json:"record,omitempty"` // what is exchanged with the kernel, in RecordFD
	List      *List      `json:"list,omitempty"`
	Configure *Configure `json:"configure,omitempty"`
	Limit     *Limit     `json:"limit,omitempty"`
	Names     *Names     `json:"names,omitempty"`
	Packets   *Packets   `json:"packets,omitempty"`
	Probes    *Probes    `json:"probes,omitempty"`
}

// List requests the sandbox's links with their addresses, and more if wanted. nsproc answers with what rtnl.Dump
// returns, and rtnl.DumpSockets behind it, and with a Reply only when it fails.
type List struct {
	Routes     bool `json:"routes,omitempty"`
	Neighbours bool `json:"neighbours,omitempty"`
	Rules      bool `json:"rules,omitempty"`   // of policy routing
	Sockets    bool `json:"sockets,omitempty"` // that wait for packets of others
}

// Configure requests that the container end of a veth pair, which Docker has moved into the sandbox, is configured.
// It may be repeated. Peer and MAC together identify the link: peers of other veths in the sandbox are in other
// namespaces, where links may have the same index. It is an error if there is no such link.
type Configure struct {
	Peer      int            `json:"peer"` // index of the host end
	MAC       mac.Address    `json:"mac"`  // of the container end
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	// Gateways are addresses that the link gets besides, and announces, since its container is the network's router.
	Gateways []netip.Addr `json:"gateways,omitempty"`
	// IPv6Gateway is where a default route out of the link leads, after any that others have made; zero: it is removed.
	IPv6Gateway netip.Addr `json:"ipv6Gateway,omitzero"`
	// Announce sends a gratuitous ARP request or an unsolicited neighbour advertisement for each of the Addresses.
	Announce bool `json:"announce,omitempty"`
	// Multicast adds a route for 224.0.0.0/4 out of the link. Its metric lets it exist beside those of other links.
	Multicast bool `json:"multicast,omitempty"`
}

// Limit requests that the default routes out of a veth, which Docker adds when the veth is up, have an MTU. nsproc
// waits a moment for one of each family of which the veth has an address. It is an error if there is no such veth or
// route.
type Limit struct {
	Peer int `json:"peer"` // index of the veth's other end
	MTU  int `json:"mtu"`  // bytes
}

// Names requests the sockets with which the plugin answers the container's questions for names, and the table that
// leads them there (package nft). nsproc passes them over SocketsFD, in the order of the constants below. They live as
// long as the plugin has them open: the table is gone with the last of them.
type Names struct{}

// The sockets that Names requests, which are all at 127.0.0.11 or lead there.
const (
	SocketUDP    = iota // where questions arrive; does not block
	SocketTCP           // likewise: it listens
	SocketDocker        // UDP, for questions to Docker's resolver, connected to it; does not block
	SocketStream        // TCP, likewise, not connected; blocks
	SocketTable         // netlink, which the table belongs to
	NamesSockets        // how many there are
)

// Packets requests a packet socket (packet(7)), which nsproc passes over SocketsFD. It belongs to the sandbox's
// namespace, does not block, and hears nothing until it is bound.
type Packets struct{}

// Probes requests the sockets with which the plugin probes what the sandbox can reach, by one protocol. nsproc passes
// them over SocketsFD, in the order of the constants below. They belong to the sandbox's namespace and don't block.
type Probes struct {
	IPv6 bool `json:"ipv6,omitempty"`
}

// The sockets that Probes requests.
const (
	SocketICMP    = iota // raw
	SocketConnect        // TCP, not connected
	SocketAsk            // UDP of IPv4, for a question to the container's resolver; not connected
	ProbeSockets         // how many there are
)

// Reply is what nsproc writes to its standard output, except for the answer to List.
type Reply struct {
	Version int      `json:"version"`
	Error   *Error   `json:"error,omitempty"`
	Skipped []string `json:"skipped,omitempty"` // what Configure left out and why; the link works without it
}

// Error says why nsproc did not do what was requested.
type Error struct {
	Op      string `json:"op"`              // what failed: "check namespace", "read request", or the request's name
	Message string `json:"message"`         // why
	Errno   int    `json:"errno,omitempty"` // the kernel's error number, if there is one
}

// Error returns what failed and why.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Op, e.Message) }

// Unwrap returns the kernel's error number as a syscall.Errno, nil if there is none.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return syscall.Errno(e.Errno)
}
