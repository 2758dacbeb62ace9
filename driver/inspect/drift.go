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
		return append(found,
			newDrift(api.SandboxUnreadable, "sandbox %s can't be looked into: %.500v", e.Sandbox, o.Err))
	case o.Inside == nil:
		return append(found, newDrift(api.ContainerEndMissing, "container end missing in the container"))
	}
	return containerDrift(found, n, e, *o.Inside)
}

// Lasting returns the drift that an endpoint shows both against its record from before it was observed and against that
// from afterwards. An endpoint that joins or leaves meanwhile differs from one of the two, which is no drift.
func Lasting(before, after []api.Drift) []api.Drift {
	return slices.DeleteFunc(before, func(d api.Drift) bool { return !slices.Contains(after, d) })
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
	if o.Down {
		found = append(found, newDrift(api.BridgeDown, "bridge %s down", o.Bridge))
	}
	if !o.Host.Up {
		return append(found, newDrift(api.HostEndDown, "host end %s down", e.HostEnd))
	}
	if state := o.Host.PortState; o.Host.Carrier && !o.Down && state != "" && state != "forwarding" {
		found = append(found, newDrift(api.HostEndBlocked, "host end %s %s", e.HostEnd, o.Host.PortState))
	}
	if o.Host.Isolated {
		found = append(found, newDrift(api.HostEndBlocked, "host end %s isolated", e.HostEnd))
	}
	if slices.Contains(droppingQdiscs, o.Host.Qdisc) {
		found = append(found, newDrift(api.HostEndBlocked, "host end %s has qdisc %s", e.HostEnd, o.Host.Qdisc))
	}
	return found
}

// droppingQdiscs are the kinds of qdiscs that drop or hold all packets. Others may shape traffic.
var droppingQdiscs = []string{"blackhole", "plug"}

// maxUnexpected is how many unexpected addresses of one endpoint are listed.
const maxUnexpected = 3

// containerDrift appends the differences of the container end to found.
func containerDrift(found []api.Drift, n driver.Network, e driver.Endpoint, inside netstate.Link) []api.Drift {
	if !inside.Up {
		found = append(found, newDrift(api.ContainerEndDown, "%s down in the container", inside.Name))
	}
	if inside.MAC != e.MAC {
		found = append(found, newDrift(api.MACChanged, "MAC %s, not %s", orNone(inside.MAC), orNone(e.MAC)))
	}
	wanted := n.InContainer(e)
	for _, a := range wanted {
		if !slices.Contains(inside.Addresses, a) {
			found = append(found, newDrift(api.AddressMissing, "address %s missing", a))
		}
	}
	unexpected := 0
	for _, a := range inside.Addresses {
		if slices.Contains(wanted, a) || !assigned(n, a.Addr()) {
			continue
		}
		if unexpected++; unexpected <= maxUnexpected {
			found = append(found, newDrift(api.AddressUnexpected, "unexpected address %s", a))
		}
	}
	if more := unexpected - maxUnexpected; more > 0 {
		found = append(found, newDrift(api.AddressUnexpected, "and %d more unexpected addresses", more))
	}
	return found
}

// assigned reports whether an address is one that Docker hands out on the network: one of its subnets that is not
// reserved (docker network create --aux-address). Others a container may give itself: link-local ones, or those that it
// has from a DHCP server or a router on a network without IPAM.
func assigned(n driver.Network, a netip.Addr) bool {
	return slices.ContainsFunc(n.Pools, func(p driver.Pool) bool {
		return p.Subnet.Bits() > 0 && p.Subnet.Contains(a) && !slices.Contains(p.Reserved, a) && !a.IsLinkLocalUnicast()
	})
}

func orNone(a mac.Address) string { return cmp.Or(a.String(), "none") }

func newDrift(kind api.DriftKind, format string, args ...any) api.Drift {
	return api.Drift{Kind: kind, Text: fmt.Sprintf(format, args...)}
}
