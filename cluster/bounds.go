// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// containerName is what Docker lets containers be called, but for its length, which Docker sets no limit to.
var containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`)

// maxNames is how many names an endpoint can have besides its container's.
const maxNames = 32

// bounded returns an endpoint without what none of the network can have, and what that is, for people; none: it is as
// it was. So it is written, and so it is read: whoever can write to etcd is not to lead packets for other networks'
// addresses to a host, nor to fill the memory of all.
func (ep Endpoint) bounded(nw Network) (_ Endpoint, without []string) {
	var addresses []netip.Prefix
	for _, a := range ep.Addresses {
		hasFamily := func(other netip.Prefix) bool { return other.Addr().Is4() == a.Addr().Is4() }
		if nw.mayHave(a) && !slices.ContainsFunc(addresses, hasFamily) {
			addresses = append(addresses, a)
		} else {
			without = append(without, fmt.Sprintf("address %s", a))
		}
	}
	ep.Addresses = addresses
	if ep.ContainerName != "" && !containerName.MatchString(ep.ContainerName) {
		without = append(without, fmt.Sprintf("a container's name of %d bytes", len(ep.ContainerName)))
		ep.ContainerName = ""
	}
	if ep.ContainerID != "" && !recordID.MatchString(ep.ContainerID) {
		without = append(without, fmt.Sprintf("a container's id of %d bytes", len(ep.ContainerID)))
		ep.ContainerID = ""
	}
	names := ValidNames(ep.Names)
	if n := len(ep.Names) - len(names); n > 0 {
		without = append(without, fmt.Sprintf("%d of %d names", n, len(ep.Names)))
	}
	ep.Names = names
	return ep, without
}

// mayHave reports whether an endpoint of the network can have an address. As for Docker's own calls, one of a family of
// which the network has no subnet may be any: this host may have joined before another one added that subnet.
func (nw Network) mayHave(a netip.Prefix) bool {
	if !a.IsValid() || a.Addr().Is4In6() {
		return false
	}
	hasFamily := func(s Subnet) bool { return s.Subnet.Addr().Is4() == a.Addr().Is4() }
	return nw.subnetOf(a.Addr()).IsValid() || !slices.ContainsFunc(nw.Subnets, hasFamily)
}

// ValidNames returns those of the names that can be asked for, at most maxNames, each once.
func ValidNames(names []string) (valid []string) {
	for _, name := range names {
		if len(valid) < maxNames && isDNSName(name) && !slices.Contains(valid, name) {
			valid = append(valid, name)
		}
	}
	return valid
}

// isDNSName reports whether a name can be asked for: it has labels of 1 to 63 bytes, at most 253 in all. Docker lets
// aliases have other characters than those of hosts.
func isDNSName(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if len(label) < 1 || len(label) > 63 {
			return false
		}
	}
	return len(name) <= 253 && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}
