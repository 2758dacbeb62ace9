// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namedGateways are the ways out that are no addresses.
var namedGateways = []Gateway{GatewayAuto, GatewayNative, GatewayDocker}

// parseGateway reads a way out: one of the named ones, or the addresses of a router, one of each family at most.
func parseGateway(value string) (Gateway, error) {
	g := Gateway(value)
	if slices.Contains(namedGateways, g) {
		return g, nil
	}
	if _, err := g.routers(); err != nil || g == "" {
		return "", errors.New("want auto, native, docker, or the address of a router, such as 10.32.0.1 or " +
			"10.32.0.1,fd32::1")
	}
	return g, nil
}

// routers returns the addresses of the routers, IPv4 first; none for a way out by another name.
func (g Gateway) routers() ([]netip.Addr, error) {
	if g == "" || slices.Contains(namedGateways, g) {
		return nil, nil
	}
	var out []netip.Addr
	for text := range strings.SplitSeq(string(g), ",") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Is4In6() || addr.Zone() != "" || addr.IsUnspecified() || addr.IsMulticast() ||
			addr.IsLoopback() {
			return nil, errors.New("not an address")
		}
		out = append(out, addr)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	if len(out) > 2 || len(out) == 2 && out[0].Is4() == out[1].Is4() {
		return nil, errors.New("more than one address of a family")
	}
	return out, nil
}

// hasGateway reports whether the network's bridge is its gateway.
func (def Definition) hasGateway() bool {
	return (def.Gateway == GatewayNative || def.Gateway == GatewayAuto) && !def.Internal
}

// replacesDockers reports whether no container of the network has docker_gwbridge for its way out.
func (def Definition) replacesDockers() bool {
	return !slices.Contains([]Gateway{"", GatewayDocker, GatewayAuto}, def.Gateway)
}

// gateways returns the addresses of the network's bridge, with the lengths of their subnets.
func (def Definition) gateways() []netip.Prefix {
	if !def.hasGateway() {
		return nil
	}
	var out []netip.Prefix
	for _, p := range def.Pools {
		if p.Gateway.IsValid() {
			out = append(out, netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))
		}
	}
	return out
}

// gatewaysOf returns the gateways of an endpoint, those that it reaches by its addresses.
func (def Definition) gatewaysOf(ep Endpoint) (ipv4, ipv6 netip.Addr) {
	all, _ := def.Gateway.routers() // it was read before
	for _, p := range def.gateways() {
		all = append(all, p.Addr())
	}
	for _, addr := range all {
		reaches := func(a netip.Prefix) bool { return a.Masked().Contains(addr) }
		switch {
		case !slices.ContainsFunc(ep.Addresses, reaches):
		case addr.Is4() && !ipv4.IsValid():
			ipv4 = addr
		case addr.Is6() && !ipv6.IsValid():
			ipv6 = addr
		}
	}
	return ipv4, ipv6
}

// checkGateway returns ErrInvalid for a way out that the network can't have.
func (def Definition) checkGateway() error {
	if _, err := parseGateway(string(def.Gateway)); err != nil && def.Gateway != "" {
		return invalidOption(optionGateway, string(def.Gateway), err.Error())
	}
	routers, _ := def.Gateway.routers()
	switch {
	case def.Internal && def.Gateway != "" && def.Gateway != GatewayDocker:
		return invalidOption(optionGateway, string(def.Gateway),
			"a network with --internal has no way out: leave one of the two")
	case def.hasGateway() && len(def.gateways()) == 0:
		return invalidOption(optionGateway, string(def.Gateway),
			"the network has no subnet with a gateway: give it a subnet (--subnet), and an IPAM driver other than null")
	}
	for _, router := range routers {
		inSubnet := func(p Pool) bool { return p.Subnet.Contains(router) && p.Subnet.Addr() != router }
		if !slices.ContainsFunc(def.Pools, inSubnet) {
			return invalidOption(optionGateway, string(def.Gateway), "the router is in no subnet of the network")
		}
	}
	return nil
}

// checkRules returns ErrInvalid for gateways of a family that weave writes no rules for: nothing would keep others out.
func (d *Driver) checkRules(def Definition) error {
	for _, gateway := range def.gateways() {
		if !d.firewallMode.Covers(gateway.Addr()) {
			return fmt.Errorf("%w: gateway %s needs firewall rules, and weave serve has --firewall=%s: have weave "+
				"write them (--firewall=auto), or give %s=%s", ErrInvalid, gateway.Addr(), d.firewallMode,
				optionGateway, GatewayDocker)
		}
	}
	return nil
}

// ruleProblems tells of networks whose gateways weave writes no rules for any more.
func (d *Driver) ruleProblems(networks []Network) []problem {
	var out []problem
	for _, nw := range networks {
		if err := d.checkRules(nw.Definition); err != nil {
			out = append(out, problem{"network " + string(nw.ID), fmt.Errorf(
				"its containers have no way out, and others that the host routes for may reach them: %w", err)})
		}
	}
	return out
}

// errPublishes says that a container that publishes ports can't be on a network.
func (def Definition) errPublishes() error {
	return fmt.Errorf("%w: the container publishes ports, which only Docker's own gateway does, and network %s has "+
		"another one (%s=%s): publish none, or use a network with %s=%s", ErrInvalid, def.ID,
		optionGateway, def.Gateway, optionGateway, GatewayDocker)
}

// addressesAt returns the addresses of a link, with the lengths of their subnets; none if there is no such link.
func addressesAt(name string) ([]netip.Prefix, error) {
	link, err := findLink(name)
	if err != nil || link == nil {
		return nil, err
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	var out []netip.Prefix
	for _, a := range addresses {
		out = append(out, prefixOf(a.IPNet))
	}
	return out, nil
}

// gatewayAddress is an address of a bridge. It is usable at once: nobody else has it, since Docker's IPAM gave it.
func gatewayAddress(gateway netip.Prefix) *netlink.Addr {
	a := &netlink.Addr{IPNet: &net.IPNet{
		IP: gateway.Addr().AsSlice(), Mask: net.CIDRMask(gateway.Bits(), gateway.Addr().BitLen()),
	}}
	if gateway.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

// ownMAC is a MAC for a bridge with a gateway. Without one of its own a bridge has the lowest of its ports', and when
// that port goes, the containers lose their gateway until they ask for it again.
func ownMAC() net.HardwareAddr {
	own := newMAC(nil)
	return own[:]
}

// forwards are the sysctls by which the host routes packets; true: IPv6.
var forwards = map[bool]string{false: "net/ipv4/ip_forward", true: "net/ipv6/conf/all/forwarding"}

// forward has the host route packets of the families of these gateways, and tells when it did not before.
func (d *Driver) forward(gateways []netip.Prefix) error {
	for is6, sysctl := range forwards {
		needed := func(g netip.Prefix) bool { return g.Addr().Is6() == is6 && d.firewallMode.Covers(g.Addr()) }
		if !slices.ContainsFunc(gateways, needed) {
			continue
		}
		if err := d.switchOn(sysctl); err != nil {
			return fmt.Errorf("have the host route packets: %w", err)
		}
	}
	return nil
}

// switchOn sets one of forwards, if it is not set. A host that routes IPv6 would not listen to its own routers any
// more, so links that do are told to go on (accept_ra 2 of the kernel's ip-sysctl.rst).
func (d *Driver) switchOn(sysctl string) error {
	path := filepath.Join("/", d.links.root, "proc/sys", sysctl)
	value, err := os.ReadFile(path)
	if err != nil || strings.TrimSpace(string(value)) != "0" {
		return err
	}
	if sysctl == forwards[true] {
		d.keepListening()
	}
	d.log.Warnf("the host routes packets from now on, between all of its links, since a network has its gateway here: "+
		"%s is 1; what it should not route is for its firewall to drop (the policy of FORWARD)", sysctl)
	return os.WriteFile(path, []byte("1"), 0)
}

// keepListening has links that take router advertisements go on with that when the host routes packets.
func (d *Driver) keepListening() {
	settings, _ := filepath.Glob(filepath.Join("/", d.links.root, "proc/sys/net/ipv6/conf/*/accept_ra"))
	for _, path := range settings {
		if value, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(value)) != "1" {
			continue
		}
		if err := os.WriteFile(path, []byte("2"), 0); err != nil {
			d.log.WithError(err).Warn("a link may not listen to its routers any more")
		}
	}
}
