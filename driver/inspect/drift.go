// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// Drift compares the endpoint, which is on network n, with what was observed of it. The result is never nil; empty
// means that there is no difference. If n is the zero Network, the bridge is not compared.
//
// While an endpoint has no sandbox nothing is expected inside, so only its host end is compared.
func Drift(n driver.Network, e driver.Endpoint, o Observation) []api.Drift {
	found := hostDrift([]api.Drift{}, n, e, o)
	switch {
	case e.Sandbox == "":
		return found
	case o.Err != nil:
		return append(found, newDrift(api.SandboxUnreadable, "sandbox %s can't be looked into: %v", e.Sandbox, o.Err))
	case o.Inside == nil:
		return append(found, newDrift(api.ContainerEndMissing, "container end missing in the container"))
	}
	return containerDrift(found, e, *o.Inside)
}

// hostDrift appends the differences of the host end to found.
func hostDrift(found []api.Drift, n driver.Network, e driver.Endpoint, o Observation) []api.Drift {
	if o.Host == nil {
		return append(found, newDrift(api.HostEndMissing, "host end %s missing", e.HostEnd))
	}
	if n.Bridge != "" && o.Bridge != n.Bridge {
		where := "no bridge"
		if o.Bridge != "" {
			where = "bridge " + o.Bridge
		}
		found = append(found, newDrift(api.WrongBridge, "host end %s on %s, not on %s", e.HostEnd, where, n.Bridge))
	}
	if !o.Host.Up {
		found = append(found, newDrift(api.HostEndDown, "host end %s down", e.HostEnd))
	}
	return found
}

// containerDrift appends the differences of the container end to found.
func containerDrift(found []api.Drift, e driver.Endpoint, inside netstate.Link) []api.Drift {
	if !inside.Up {
		found = append(found, newDrift(api.ContainerEndDown, "%s down in the container", inside.Name))
	}
	if inside.MAC != e.MAC {
		found = append(found, newDrift(api.MACChanged, "MAC %s, not %s", orNone(inside.MAC), orNone(e.MAC)))
	}
	for _, a := range e.Addresses {
		if !slices.Contains(inside.Addresses, a) {
			found = append(found, newDrift(api.AddressMissing, "address %s missing", a))
		}
	}
	for _, a := range inside.Addresses {
		if !slices.Contains(e.Addresses, a) && !selfAssigned(a) {
			found = append(found, newDrift(api.AddressUnexpected, "unexpected address %s", a))
		}
	}
	return found
}

// selfAssigned reports whether a is link-local. Hosts give themselves such addresses; nobody assigns them.
func selfAssigned(a netip.Prefix) bool { return a.Addr().IsLinkLocalUnicast() }

func orNone(a mac.Address) string { return cmp.Or(a.String(), "none") }

func newDrift(kind api.DriftKind, format string, args ...any) api.Drift {
	return api.Drift{Kind: kind, Text: fmt.Sprintf(format, args...)}
}
