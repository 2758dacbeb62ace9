// Package protocol is what the plugin and nsproc, the process that works inside a container's network namespace, say to
// each other. It holds little else, since each nsproc pays for what it imports.
package protocol

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/weaveplugin/weave/internal/mac"
)

// Version is the version of the messages between the plugin and nsproc. Each refuses the other's if it differs: nsproc
// every request, the plugin every Reply.
const Version = 1

// The descriptors and sizes that both sides keep to.
const (
	NamespaceFD = 3       // the sandbox's namespace, open in nsproc; its entry point has the number too
	MaxRequest  = 4 << 10 // bytes; a pipe holds as much
	MaxReply    = 4 << 20 // bytes
	// Refused is the exit status of an nsproc whose Reply has an Error.
	Refused = 3
	// EntryFailed is the exit status, less the errno, of an nsproc that could not enter the namespace.
	EntryFailed = 100
)

// Request is what nsproc reads from its standard input: exactly one of List and Configure is set.
type Request struct {
	Version   int        `json:"version"`
	List      *List      `json:"list,omitempty"`
	Configure *Configure `json:"configure,omitempty"`
}

// List asks for the sandbox's links with their addresses, and for more where that is wanted. The reply to it is what
// rtnl.Conn.Dump returns; it becomes a Reply only if nsproc refuses.
type List struct {
	Routes     bool `json:"routes,omitempty"`
	Neighbours bool `json:"neighbours,omitempty"`
}

// Configure asks for what has to be set on a container end once Docker has moved it into the sandbox. It can be
// repeated without harm.
type Configure struct {
	Peer      int            `json:"peer"` // index of the host end: the veth in the sandbox whose IFLA_LINK it is gets configured
	MAC       mac.Address    `json:"mac"`  // the container end's; a link that has another one is not ours: an error
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	Announce  bool           `json:"announce,omitempty"`  // send a gratuitous ARP / an unsolicited neighbour advertisement for each address
	Multicast bool           `json:"multicast,omitempty"` // route 224.0.0.0/4 out of this link, beside other links' (by metric)
	IPv6      bool           `json:"ipv6,omitempty"`      // the network has IPv6: accept no router advertisements on this link
	Proc      string         `json:"proc"`                // where a proc is mounted whose settings can be written; the Launcher sets it
}

// Reply is what nsproc writes to its standard output, other than the dump that answers List.
type Reply struct {
	Version int      `json:"version"`
	Error   *Error   `json:"error,omitempty"`
	Skipped []string `json:"skipped,omitempty"` // what Configure could not set here and why, harmless without
}

// Error is nsproc's refusal or failure.
type Error struct {
	Op      string `json:"op"`              // what was tried: "check namespace", "list links", ...
	Message string `json:"message"`         // why it failed
	Errno   int    `json:"errno,omitempty"` // the kernel's error number, if it was the kernel's refusal
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Op, e.Message) }

// Unwrap gives the kernel's error number, so that errors.Is finds it.
func (e *Error) Unwrap() error {
	if e.Errno == 0 {
		return nil
	}
	return syscall.Errno(e.Errno)
}
