// SPDX-License-Identifier: Apache-2.0

package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Bridge is one whose frames pass the host's tables, or that has the gateway of its network.
type Bridge struct {
	Name      string
	NetworkID string // of the network that it carries
	IPv6      bool   // the network has IPv6 addresses
	Foreign   bool   // it is not weave's own: rules of weave's let frames pass, and no more

	// Gateways are those of the subnets whose packets the host routes. What comes from elsewhere enters the network
	// only as the answer to those.
	Gateways []Gateway

	HostApart bool // nothing from a bridge with gateways is delivered to the host itself
}

// Gateway is the address of a bridge, with the length of its subnet.
type Gateway struct {
	netip.Prefix
	Masquerade bool // what leaves the subnet has the host's address
}

func (b Bridge) isGateway() bool { return len(b.Gateways) > 0 }

// How the names of the bridges begin that weave names itself.
const (
	ownPrefix    = "wv-"  // of those on which the host has no address
	routedPrefix = "wvg-" // of those with a gateway
)

// safeArgument matches what may stand on an iptables command line and in a rule's comment: no leading dash, no wildcard
// (iptables takes a trailing + for one), no space, quote or line break, and no colon, which separates the comment's
// ids.
var safeArgument = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

const safeArgumentHint = "want at most 64 of letters, digits, '_', '.' and '-', not beginning with '.' or '-'"

func (b Bridge) validate() error {
	if !safeArgument.MatchString(b.Name) {
		return fmt.Errorf("bridge %q: %s", b.Name, safeArgumentHint)
	}
	if !safeArgument.MatchString(b.NetworkID) {
		return fmt.Errorf("bridge %s: network id %q: %s", b.Name, b.NetworkID, safeArgumentHint)
	}
	return nil
}

// subject is what one rule is for: all bridges that weave has named, or one that the user has named, or the tunnel.
type subject struct {
	links   string // as iptables writes it: a name, or how names begin and a +
	own     bool   // weave's own bridges, on which the host has no address
	routed  bool   // weave's own bridges with a gateway
	comment string // of its rules
	accept  Mark   // of what may enter a routed one

	// masquerade is a subnet of the bridge: what leaves it gets the host's address. Such a subject is for that alone.
	masquerade netip.Prefix
	// sources are all subnets of the bridge: nothing else is routed from there. Likewise.
	sources []netip.Prefix
	// apart: the host takes nothing from the bridge. Likewise.
	apart bool
	// tunnel is for no bridge.
	tunnel Tunnel
	// probes: the link is that of probes, and no bridge either.
	probes bool
}

// isSpecial reports whether the subject is for something that a bridge does not share with others of its kind.
func (s subject) isSpecial() bool {
	return s.masquerade.IsValid() || s.sources != nil || s.apart || s.tunnel.Port != 0 || s.probes
}

// subjects returns what there have to be rules for, sorted.
func subjects(bridges []Bridge, stateID string) []subject {
	var all []subject
	for _, b := range bridges {
		s := subject{links: b.Name, comment: commentPrefix + stateID + ":" + b.NetworkID}
		var subnets []netip.Prefix
		for _, gateway := range b.Gateways {
			s.routed = true
			subnets = append(subnets, gateway.Masked())
			if gateway.Masquerade {
				all = append(all, subject{links: b.Name, comment: s.comment, masquerade: gateway.Masked()})
			}
		}
		if s.routed && b.HostApart {
			all = append(all, subject{links: b.Name, comment: s.comment, apart: true})
		}
		if s.routed {
			all = append(all, subject{links: b.Name, comment: s.comment, sources: subnets})
		}
		s.own = !b.Foreign && !s.routed
		switch {
		case s.own && strings.HasPrefix(b.Name, ownPrefix):
			s.links, s.comment = ownPrefix+"+", commentPrefix+stateID
		case s.routed && strings.HasPrefix(b.Name, routedPrefix):
			s.links, s.comment = routedPrefix+"+", commentPrefix+stateID
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b subject) int {
		return cmp.Or(cmp.Compare(a.links, b.links), cmp.Compare(a.comment, b.comment),
			cmp.Compare(a.String(), b.String()))
	})
	return slices.CompactFunc(all, func(a, b subject) bool {
		return a.comment == b.comment && a.own == b.own && a.String() == b.String()
	})
}

const commentPrefix = "weave:"

// origin returns which state made a rule, and for which network, as the rule's comment says: none if it is for all
// bridges that weave has named. It is not ok if the rule is none of weave's.
func origin(args []string) (stateID, networkID string, ok bool) {
	ids, ok := strings.CutPrefix(option(args, "--comment"), commentPrefix)
	if !ok {
		return "", "", false
	}
	stateID, networkID, named := strings.Cut(ids, ":")
	return stateID, networkID, stateID != "" && named == (networkID != "")
}

// owner says which rules weave may remove: those that this state made, those that any state made for one of its
// networks, and those of states that are gone. Docker never uses a network's id again, so a state that made a rule for
// the network of another one was an earlier one on this machine, whose network that one has taken over.
type owner struct {
	stateID  string
	networks map[string]bool // by id

	// living returns the states that have links on this host, by id; nil if nobody knows. It is called only if it
	// matters, since it lists them all. Without it no state is gone.
	living func() map[string]bool
}

// isGone reports whether a state has nothing on this host any more.
func (o owner) isGone(stateID string) bool {
	if o.living == nil || stateID == o.stateID {
		return false
	}
	living := o.living()
	return living != nil && !living[stateID]
}

func (o owner) owns(args []string) bool {
	stateID, networkID, ok := origin(args)
	return ok && (stateID == o.stateID || o.networks[networkID] || networkID == "" && o.isGone(stateID))
}
