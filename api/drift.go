package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// DriftKind says in which way an endpoint has drifted from what weave tracks.
type DriftKind string

// The kinds of drift.
const (
	HostEndMissing      DriftKind = "host-end-missing"
	HostEndDown         DriftKind = "host-end-down"
	WrongBridge         DriftKind = "wrong-bridge"          // the host end is a port of another bridge, or of none
	SandboxUnreadable   DriftKind = "sandbox-unreadable"    // gone, or it could not be looked into: nothing is known of the inside
	ContainerEndMissing DriftKind = "container-end-missing" // the sandbox is there and the container end isn't in it
	ContainerEndDown    DriftKind = "container-end-down"
	MACChanged          DriftKind = "mac-changed"
	AddressMissing      DriftKind = "address-missing"
	AddressUnexpected   DriftKind = "address-unexpected"
	NotObserved         DriftKind = "not-observed" // whether there is any drift is not known
)

// drift compares an endpoint of network n with what was observed of it. The result is never nil; empty means none.
//
// An endpoint in state driver.Created has no sandbox yet, so nothing is expected inside.
func drift(n driver.Network, e driver.Endpoint, o driver.Observation) []Drift {
	found := driftOutside([]Drift{}, n, e, o)
	if e.State == driver.Created {
		return found
	}
	switch {
	case o.Err != "":
		return append(found, driftf(SandboxUnreadable, "sandbox %s can't be looked into: %s", e.Sandbox, o.Err))
	case o.Inside == nil:
		return append(found, driftf(ContainerEndMissing, "container end missing in the container"))
	}
	return driftInside(found, e, *o.Inside)
}

// driftOutside appends the differences of the host end.
func driftOutside(found []Drift, n driver.Network, e driver.Endpoint, o driver.Observation) []Drift {
	if o.Host == nil {
		return append(found, driftf(HostEndMissing, "host end %s missing", e.HostEnd))
	}
	if n.Bridge != "" && o.Bridge != n.Bridge {
		where := "no bridge"
		if o.Bridge != "" {
			where = "bridge " + o.Bridge
		}
		found = append(found, driftf(WrongBridge, "host end %s on %s, not on %s", e.HostEnd, where, n.Bridge))
	}
	if !o.Host.Up {
		found = append(found, driftf(HostEndDown, "host end %s down", e.HostEnd))
	}
	return found
}

// driftInside appends the differences of the container end.
func driftInside(found []Drift, e driver.Endpoint, inside netstate.Link) []Drift {
	if !inside.Up {
		found = append(found, driftf(ContainerEndDown, "%s down in the container", inside.Name))
	}
	if !strings.EqualFold(inside.MAC.String(), e.MAC) {
		found = append(found, driftf(MACChanged, "MAC %s, not %s", orNone(inside.MAC.String()), orNone(e.MAC)))
	}
	for _, a := range e.Addresses {
		if !slices.Contains(inside.Addresses, a) {
			found = append(found, driftf(AddressMissing, "address %s missing", a))
		}
	}
	for _, a := range inside.Addresses {
		if !slices.Contains(e.Addresses, a) && !ownLinkLocal(a) {
			found = append(found, driftf(AddressUnexpected, "unexpected address %s", a))
		}
	}
	return found
}

// ownLinkLocal reports whether a is an address that hosts give to themselves.
func ownLinkLocal(a netip.Prefix) bool { return a.Addr().IsLinkLocalUnicast() }

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func driftf(kind DriftKind, format string, args ...any) Drift {
	return Drift{Kind: kind, Text: fmt.Sprintf(format, args...)}
}
