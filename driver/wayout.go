// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// WayOut is the bridge by which Docker connects the containers of networks that are not internal with the outside. It
// makes it with the first such container, of a subnet that none of its own networks has. It does not ask what other
// IPAM drivers have handed out. A container can't be on two networks whose subnets overlap.
const WayOut = "docker_gwbridge"

// dockersSpace is the address space of the networks on this host whose subnets are in Docker's own account.
const dockersSpace = "LocalDefault"

// makeWayOut is the command that makes WayOut as Docker does (createGWNetwork in moby's libnetwork), but of a subnet of
// the user's choice.
const makeWayOut = "docker network create --subnet SUBNET -o com.docker.network.bridge.name=" + WayOut +
	" -o com.docker.network.bridge.enable_icc=false -o com.docker.network.bridge.enable_ip_masquerade=true " + WayOut

// checkWayOut returns ErrConflict if the network's containers could not be connected with the outside, because its
// subnet is also that of WayOut, or may become so.
func (d *Driver) checkWayOut(ctx context.Context, def Definition) error {
	if err := d.checkOwnGateway(ctx, def); err != nil {
		return err
	}
	there, err := dockersSubnets(ctx)
	if err != nil {
		return err
	}
	return def.checkWayOut(there[WayOut], d.dockersPools())
}

// checkRoutes returns ErrConflict if the host has a route into one of the network's subnets: with the gateway's address
// it would send packets that are for elsewhere into the network.
func (def Definition) checkRoutes(routes []netip.Prefix) error {
	for _, p := range def.Pools {
		if other, found := overlapping(p.Subnet, routes); found {
			return fmt.Errorf("%w: subnet %s overlaps %s, which the host has a route to, so the host can't be the "+
				"gateway: name another subnet (--subnet), or give %s=%s",
				ErrConflict, p.Subnet, other, optionGateway, GatewayDocker)
		}
	}
	return nil
}

// checkWayOut is Driver.checkWayOut for subnets of WayOut, none if it is not there, and for the pools that Docker would
// take its subnet from. It takes none that the host has a route to, as it has to a network with a gateway of its own.
func (def Definition) checkWayOut(there, pools []netip.Prefix) error {
	if def.Internal || !def.usesDockers() {
		return nil
	}
	for _, p := range def.Pools {
		if other, found := overlapping(p.Subnet, there); found {
			return fmt.Errorf("%w: subnet %s overlaps %s of %s, by which Docker connects containers with the "+
				"outside, and a container can't be on both: name another subnet (--subnet), make the network "+
				"internal (--internal), or give %s another one: docker network rm %s, then %s",
				ErrConflict, p.Subnet, other, WayOut, WayOut, WayOut, makeWayOut)
		}
		other, found := overlapping(p.Subnet, pools)
		if found && len(there) == 0 && p.Space != dockersSpace && !def.hasGateway() {
			return fmt.Errorf("%w: subnet %s overlaps %s, from which Docker has yet to take a subnet for %s, by "+
				"which it connects containers with the outside, and it may take the same one: name a subnet outside "+
				"of Docker's default address pools (--subnet), leave the subnet to Docker's own IPAM (without "+
				"--ipam-driver), make the network internal (--internal), or make %s first, with a subnet that you "+
				"choose: %s",
				ErrConflict, p.Subnet, other, WayOut, WayOut, makeWayOut)
		}
	}
	return nil
}

// overlaps returns the problems of a network whose subnet is also that of one of Docker's bridges, which are given by
// name: Docker may have made the bridge after the network.
func (nw Network) overlaps(bridges map[string][]netip.Prefix) []problem {
	var out []problem
	for _, name := range slices.Sorted(maps.Keys(bridges)) {
		for _, p := range nw.Pools {
			other, found := overlapping(p.Subnet, bridges[name])
			if !found || (nw.Internal || !nw.usesDockers()) && name == WayOut {
				continue
			}
			what := "no container can be on both"
			if name == WayOut {
				what = "its containers can't be connected with the outside, and don't start"
			}
			out = append(out, problem{"network " + string(nw.ID), fmt.Errorf(
				"subnet %s overlaps %s of bridge %s: %s: make one of the two networks again, with another subnet",
				p.Subnet, other, name, what)})
		}
	}
	return out
}

// overlapping returns one of the subnets that overlaps p, unless p is all addresses, which is Docker's null pool: its
// network has no addresses that Docker knows.
func overlapping(p netip.Prefix, subnets []netip.Prefix) (netip.Prefix, bool) {
	i := slices.IndexFunc(subnets, p.Overlaps)
	if p.Bits() == 0 || i < 0 {
		return netip.Prefix{}, false
	}
	return subnets[i], true
}

// bridgeSubnets returns the IPv4 subnets that the host has addresses of on bridges, by the names of these.
func dockersSubnets(ctx context.Context) (map[string][]netip.Prefix, error) {
	links, err := listLinks(ctx)
	if err != nil {
		return nil, err
	}
	addresses, err := dump(ctx, "addresses", func() ([]netlink.Addr, error) {
		return netlink.AddrList(nil, netlink.FAMILY_V4)
	})
	if err != nil {
		return nil, err
	}
	names := map[int]string{} // by index
	for _, link := range links {
		if dockerBridge.MatchString(link.Attrs().Name) {
			names[link.Attrs().Index] = link.Attrs().Name
		}
	}
	out := map[string][]netip.Prefix{}
	for _, a := range addresses {
		if name := names[a.LinkIndex]; name != "" {
			out[name] = append(out[name], prefixOf(a.IPNet).Masked())
		}
	}
	return out, nil
}
