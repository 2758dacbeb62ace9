// SPDX-License-Identifier: Apache-2.0

package names

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
)

// Endpoint is an endpoint of a network of the cluster under its names.
type Endpoint struct {
	Names     []string // the container's own first, then aliases
	Addresses []netip.Addr
	Here      bool // on this host: Docker knows its names as well
}

// Attachment is one network that a container is on.
type Attachment struct {
	Network string // its name in the cluster
	Name    string // what Docker calls it on this host: a container is also NAME.NETWORK there
}

// zone is what is known of one network of the cluster. It is never changed.
//
// It has the names that an endpoint on another host has, with the addresses of this host's endpoints of the same name
// besides, so that an alias means the same on all hosts. Docker is not asked for such a name: it would ask the outside
// for each name of another host's, and wait for the answer. So what only Docker knows under such a name (a container
// of another network that the asker is on, or a --link) is hidden. Names that only this host has are left to Docker.
type zone struct {
	addresses map[string][]netip.Addr // by name, in lower case
	names     map[netip.Addr]string   // of endpoints on other hosts
}

func newZone(endpoints []Endpoint) *zone {
	z := &zone{addresses: map[string][]netip.Addr{}, names: map[netip.Addr]string{}}
	for _, ep := range endpoints {
		if ep.Here || len(ep.Names) == 0 {
			continue
		}
		for _, name := range ep.Names {
			z.addresses[strings.ToLower(name)] = nil
		}
		for _, a := range ep.Addresses {
			z.names[a] = ep.Names[0]
		}
	}
	for _, ep := range endpoints {
		for _, name := range ep.Names {
			name = strings.ToLower(name)
			known, ok := z.addresses[name]
			if !ok {
				continue
			}
			for _, a := range ep.Addresses {
				if !slices.Contains(known, a) {
					known = append(known, a)
				}
			}
			z.addresses[name] = known
		}
	}
	return z
}

// directory is all that is known, by the networks' names in the cluster.
type directory map[string]*zone

// lookup returns the addresses of a name, in lower case and without a dot at its end, on the first of the networks that
// has it.
func (d directory) lookup(name string, on []Attachment) (addresses []netip.Addr, ok bool) {
	for _, network := range on {
		z := d[network.Network]
		if z == nil {
			continue
		}
		if addresses, ok = z.addresses[name]; ok {
			return addresses, true
		}
		if short, isFull := strings.CutSuffix(name, "."+strings.ToLower(network.Name)); isFull {
			if addresses, ok = z.addresses[short]; ok {
				return addresses, true
			}
		}
	}
	return nil, false
}

// nameOf returns the name of an address, with that of the network, as Docker has it; empty: not known, or no name for
// DNS, as Docker lets networks have them.
func (d directory) nameOf(addr netip.Addr, on []Attachment) string {
	for _, network := range on {
		if z := d[network.Network]; z != nil && z.names[addr] != "" {
			if name := z.names[addr] + "." + network.Name; isName(name) {
				return name
			}
		}
	}
	return ""
}

// isName reports whether a name, without a dot at its end, fits into a message of DNS.
func isName(name string) bool {
	const longest, longestLabel = 253, 63
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > longestLabel {
			return false
		}
	}
	return len(name) <= longest
}

// rotated returns those of the addresses that are of a family, beginning with any of them.
func rotated(addresses []netip.Addr, is6 bool) []netip.Addr {
	of := slices.DeleteFunc(slices.Clone(addresses), func(a netip.Addr) bool { return a.Is6() != is6 })
	if len(of) < 2 {
		return of
	}
	n := rand.IntN(len(of))
	return append(of[n:len(of):len(of)], of[:n]...)
}
