// SPDX-License-Identifier: Apache-2.0

package api

import "encoding/json"

// The requests that RunNsproc can have nsproc execute.
const (
	NsprocList      = "list"      // list what is in the sandbox
	NsprocConfigure = "configure" // configure the container end as weave does each time it comes up; no harm is done
)

// The names of the parameters of RunNsproc in a URL.
const (
	ParamRequest = "request"
	ParamTrace   = "trace"
)

// NsprocRun is what one nsproc did in the sandbox of an endpoint.
type NsprocRun struct {
	Endpoint Endpoint        `json:"endpoint"`
	Request  json.RawMessage `json:"request"` // as it was sent
	// Trace has a line for each message that nsproc sent to the kernel (>) or received (<) inside the sandbox, with the
	// time, and an indented line for each of its attributes. Empty unless it was asked for.
	Trace     []string        `json:"trace,omitempty"`
	Truncated bool            `json:"truncated,omitempty"` // there was more than the trace has
	Answer    json.RawMessage `json:"answer,omitempty"`    // a Sandbox for NsprocList
	Error     string          `json:"error,omitempty"`     // why there is no answer
	Took      float64         `json:"tookSeconds"`
}

// Sandbox is what is in a container's network namespace.
type Sandbox struct {
	Links      []Link      `json:"links"`
	Routes     []Route     `json:"routes"` // of the main table
	Neighbours []Neighbour `json:"neighbours"`
	Rules      []Rule      `json:"rules"`   // of policy routing, in the order in which they are tried
	Sockets    []Socket    `json:"sockets"` // that wait for packets of others; null: the kernel does not tell
}
