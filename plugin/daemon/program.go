// SPDX-License-Identifier: Apache-2.0

// Package daemon is `weave serve` around the work itself: configuration, start and stop, the sockets, capabilities, and
// what is particular to a managed plugin. What answers on the sockets is a Program that the caller gives.
//
// It runs in the host's network namespace and never leaves it.
package daemon

import (
	"context"
	"net/http"
)

// Program is what the daemon runs.
type Program struct {
	// Open opens the core. It returns early when its context ends. Sockets are those that the daemon listens on.
	Open   func(context.Context, Sockets) (*Core, error)
	Docker Protocol // of the sockets that Docker calls
	API    Protocol // of the socket of weave's own API
}

// Core is what does the work, once it is open.
type Core struct {
	Docker http.Handler                // answers on the sockets that Docker calls
	API    http.Handler                // answers on the socket of weave's own API
	Run    func(context.Context) error // works in the background until its context ends
	Close  func() error                // is called last, when nothing uses the core any more

	// Page answers with the page and metrics, at Config.HTTPAddress; optional where that is zero.
	Page http.Handler

	// EndStreams ends the answers that would last for ever, when weave is to stop. Optional.
	EndStreams func()
}

// Protocol is how requests on a socket are answered where the core does not.
type Protocol struct {
	// Handshake answers requests that need no core, while there is none; optional.
	Handshake *http.ServeMux
	// Refuse answers a request with an error, of this HTTP status.
	Refuse func(w http.ResponseWriter, status int, err error)
}
