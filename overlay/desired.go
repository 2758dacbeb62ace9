// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/internal/mac"
)

// Remote is an endpoint on another host.
type Remote struct {
	MAC       mac.Address
	Addresses []netip.Addr
	VTEP      netip.Addr // of the host that it is on
}

// Table is one of the kernel's tables that an Entry is in.
type Table uint8

// The tables, in the order in which a new endpoint is entered. When it goes, it is taken out in the reverse order, so
// that the bridge answers for no MAC that frames don't get to.
const (
	Flood     Table = iota // the VXLAN device sends what is for several there
	Tunnel                 // the VXLAN device sends frames to the MAC there
	Port                   // the bridge sends frames to the MAC to the VXLAN device
	Neighbour              // the bridge answers ARP and neighbour solicitations for the address with the MAC
)

// Entry is a row of a table. What the table does not need is zero.
type Entry struct {
	Table   Table
	MAC     mac.Address
	Address netip.Addr // the VTEP in Flood and Tunnel, the endpoint's in Neighbour
}

// String tells the entry to people.
func (e Entry) String() string {
	switch e.Table {
	case Flood:
		return fmt.Sprintf("flooding to %s", e.Address)
	case Tunnel:
		return fmt.Sprintf("MAC %s at %s", e.MAC, e.Address)
	case Port:
		return fmt.Sprintf("MAC %s at the VXLAN device", e.MAC)
	}
	return fmt.Sprintf("address %s at MAC %s", e.Address, e.MAC)
}

// key is the entry without what can be replaced: a table has one row for a key.
func (e Entry) key() Entry {
	switch e.Table {
	case Tunnel:
		e.Address = netip.Addr{}
	case Neighbour:
		e.MAC = mac.Address{}
	}
	return e
}

// Entries is a set.
type Entries map[Entry]struct{}

func (s Entries) has(e Entry) bool { _, ok := s[e]; return ok }
func (s Entries) add(e Entry)      { s[e] = struct{}{} }

// Desired returns the entries for a network's remote endpoints on the host whose VTEP is local. It is a pure function:
// the order of the endpoints does not matter. If two of them have one MAC, or one address, as for a moment they may
// when an endpoint moves, the one with the lower VTEP has it, then that with the lower MAC. Endpoints that can't be
// reached get nothing: those with a MAC that is not of one station, and those whose VTEP is this host's or of another
// family. Package clustersync tells users of endpoints that have one MAC.
func Desired(local netip.Addr, remotes []Remote) Entries {
	local = local.Unmap()
	reachable := make([]Remote, 0, len(remotes))
	for _, r := range remotes {
		r.VTEP = r.VTEP.Unmap()
		if r.reachableFrom(local) {
			reachable = append(reachable, r)
		}
	}
	slices.SortStableFunc(reachable, func(a, b Remote) int {
		return cmp.Or(a.VTEP.Compare(b.VTEP), bytes.Compare(a.MAC[:], b.MAC[:]))
	})
	out := Entries{}
	owners := make(map[Entry]struct{}, 2*len(reachable))
	// enter enters what nobody has yet.
	enter := func(e Entry) {
		if _, taken := owners[e.key()]; !taken {
			owners[e.key()] = struct{}{}
			out.add(e)
		}
	}
	for _, r := range reachable {
		out.add(Entry{Table: Flood, Address: r.VTEP})
		enter(Entry{Table: Tunnel, MAC: r.MAC, Address: r.VTEP})
		if !out.has(Entry{Table: Tunnel, MAC: r.MAC, Address: r.VTEP}) {
			continue // somebody else has the MAC
		}
		out.add(Entry{Table: Port, MAC: r.MAC})
		for _, a := range r.Addresses {
			if a = a.Unmap(); a.Zone() == "" && (a.IsGlobalUnicast() || a.IsLinkLocalUnicast()) {
				enter(Entry{Table: Neighbour, MAC: r.MAC, Address: a})
			}
		}
	}
	return out
}

func (r Remote) reachableFrom(local netip.Addr) bool {
	return !r.MAC.IsZero() && r.MAC.IsUnicast() &&
		r.VTEP.IsValid() && r.VTEP.BitLen() == local.BitLen() && r.VTEP != local &&
		!r.VTEP.IsUnspecified() && !r.VTEP.IsMulticast()
}
