// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// hostIsolation are the sysctls of a bridge that keep the host itself apart from its network: the host accepts no
// router advertisement, answers no ARP request and receives no packet. Otherwise containers could reach the host's
// addresses, and give it addresses and a default route. Frames from port to port still pass.
//
// A bridge of the cluster has to have IPv6 all the same, or the kernel takes no neighbours for it, by which it answers
// for the containers of other hosts. It has no address there.
func hostIsolation(disableIPv6 uint32) []property {
	return []property{
		sysctl("net/ipv6/conf/%s/accept_ra", devconfAcceptRA, 0),
		sysctl("net/ipv6/conf/%s/disable_ipv6", devconfDisableIPv6, disableIPv6),
		sysctl("net/ipv4/conf/%s/arp_ignore", devconfARPIgnore, 8),
		sysctl("net/ipv4/conf/%s/rp_filter", devconfRPFilter, 1), // drops every packet, since no route leads back
	}
}

// hostAtGateway are the sysctls of a bridge that has the gateway of its network: the host is a member of the network,
// but takes no router advertisement there.
var hostAtGateway = []property{
	sysctl("net/ipv6/conf/%s/accept_ra", devconfAcceptRA, 0),
	sysctl("net/ipv6/conf/%s/disable_ipv6", devconfDisableIPv6, 0),
}

// Where the kernel tells a link's sysctls: DEVCONF_* of linux/ipv6.h, and IPV4_DEVCONF_* - 1 of linux/ip.h.
const (
	devconfAcceptRA    = 3
	devconfDisableIPv6 = 26
	devconfRPFilter    = 7
	devconfARPIgnore   = 18
)

// sysctl is the property that a bridge's sysctl has a value. The path is below /proc/sys, %s being the bridge. Of a
// host without IPv6 the kernel tells no sysctls for it, and none is needed. In a managed plugin /proc/sys is read-only,
// so the sysctl is written in the /proc of the host's root.
func sysctl(path string, at int, value uint32) property {
	name := filepath.Base(path)
	told := func(have *hostLink) []uint32 {
		if strings.HasPrefix(path, "net/ipv6/") {
			return have.ipv6
		}
		return have.ipv4
	}
	return property{
		name: name,
		wrong: func(have *hostLink, _ wanted) string {
			if all := told(have); at < len(all) && all[at] != value {
				return fmt.Sprintf("%s %d, not %d", name, int32(all[at]), value)
			}
			return ""
		},
		set: func(l links, have *hostLink, _ wanted) error {
			file := filepath.Join("/", l.root, "proc/sys", fmt.Sprintf(path, have.Attrs().Name))
			if err := os.WriteFile(file, []byte(strconv.Itoa(int(value))), 0); err != nil {
				return fmt.Errorf("isolate the host from it: %w", err)
			}
			told(have)[at] = value
			return nil
		},
	}
}
