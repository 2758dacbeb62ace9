// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
	"net/url"
)

// PathCheckHost is where a check of the host is requested: CheckHost.
const PathCheckHost = "/v1/check/host"

// HostPart is a part of the host that is checked.
type HostPart string

// The parts, in the order in which they are told of.
const (
	HostKernel       HostPart = "kernel"       // what weave uses of it
	HostCapabilities HostPart = "capabilities" // of weave
	HostSandboxes    HostPart = "sandboxes"    // whether weave sees them, which Docker mounts
	HostState        HostPart = "state"        // the disk that weave's records are on, and its sockets
	HostLinks        HostPart = "links"        // what weave makes: bridges, host ends, rules
	HostPorts        HostPart = "ports"        // of bridges, of which there are 1,023 at most
	HostEndpoints    HostPart = "endpoints"    // whether they are in their containers as they should be
	HostAddresses    HostPart = "addresses"    // whether somebody else answers for an address
	HostSubnets      HostPart = "subnets"      // and the host's routes
	HostWayOut       HostPart = "way-out"      // what keeps packets from leaving networks
	HostInside       HostPart = "inside"       // what keeps packets from passing inside networks
	HostTranslation  HostPart = "translation"  // of addresses, by rules that are not weave's
	HostReversePath  HostPart = "reverse-path" // rp_filter
	HostNeighbours   HostPart = "neighbours"   // the kernel's table of them
	HostDocker       HostPart = "docker"       // its API, its version
	HostForgotten    HostPart = "forgotten"    // what weave has and Docker does not know
	HostCluster      HostPart = "cluster"      // networks between hosts
)

// HostCheck is what was found on a host.
type HostCheck struct {
	Failed   int           `json:"failed"`   // how many of the findings are failures
	Findings []HostFinding `json:"findings"` // at least one of each part that this host has, in the order of the parts
}

// HostFinding is what was found of a part of the host.
type HostFinding struct {
	Part     HostPart    `json:"part"`
	Result   CheckResult `json:"result"`
	Evidence string      `json:"evidence"`         // for people
	Advice   string      `json:"advice,omitempty"` // what to do, if the evidence does not say it
}

// CheckHost looks at everything on the host that weave depends on. It takes some seconds. Only root can do that.
func (c *Client) CheckHost(ctx context.Context) (HostCheck, error) {
	return request[HostCheck](ctx, c, http.MethodPost, url.URL{Path: PathCheckHost})
}
