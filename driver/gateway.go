// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// namedGateways are the ways out that are no addresses.
var namedGateways = []Gateway{GatewayAuto, GatewayNative, GatewayDocker}

// containerPrefix begins a way out by a container; its name follows.
const containerPrefix = "container:"

// containerName matches what Docker takes as the name of a container.
var containerName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// parseGateway reads a way out: one of the named ones, a container, or the addresses of a router, one of each family at
// most.
func parseGateway(value string) (Gateway, error) {
	g := Gateway(value)
	if slices.Contains(namedGateways, g) || containerName.MatchString(g.container()) {
		return g, nil
	}
	if _, err := g.routers(); err != nil || g == "" || g.container() != "" {
		return "", errors.New("want auto, native, docker, container:NAME, or the address of a router, such as " +
			"10.32.0.1 or 10.32.0.1,fd32::1")
	}
	return g, nil
}

// container returns the name of the container that is the router; empty: none is.
func (g Gateway) container() string {
	name, _ := strings.CutPrefix(string(g), containerPrefix)
	if name == string(g) {
		return ""
	}
	return name
}

// routers returns the addresses of the routers, IPv4 first; none for a way out by another name.
func (g Gateway) routers() ([]netip.Addr, error) {
	if g == "" || slices.Contains(namedGateways, g) || g.container() != "" {
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

// routersGateway is the way out by these routers, IPv4 first, or by the first of each family.
func routersGateway(routers []netip.Prefix) Gateway {
	var texts []string
	for i, r := range routers {
		if i > 0 && r.Addr().Is4() == routers[i-1].Addr().Is4() {
			continue
		}
		texts = append(texts, r.Addr().String())
	}
	return Gateway(strings.Join(texts, ","))
}

// hasGateway reports whether the network's bridge is its gateway.
func (def Definition) hasGateway() bool {
	return (def.Gateway == GatewayNative || def.Gateway == GatewayAuto) && !def.Internal
}

// usesDockers reports whether containers of the network may have docker_gwbridge for their way out. Of a network whose
// router is a container that container has.
func (def Definition) usesDockers() bool {
	return !def.replacesDockers() || def.Gateway.container() != ""
}

// replacesDockers reports whether no container of the network has docker_gwbridge for its way out, but for its router.
func (def Definition) replacesDockers() bool {
	return !slices.Contains([]Gateway{"", GatewayDocker, GatewayAuto}, def.Gateway)
}

// hasRouter reports whether somebody else is the network's router.
func (def Definition) hasRouter() bool {
	return def.replacesDockers() && !def.hasGateway() && !def.Internal
}

// isRouter reports whether a container is the network's way out.
func (def Definition) isRouter(ep Endpoint) bool { return ep.Router && def.Gateway.container() != "" }

// gateways returns the addresses of the network's bridge, with the lengths of their subnets.
func (def Definition) gateways() []netip.Prefix {
	if !def.hasGateway() {
		return nil
	}
	return def.poolGateways()
}

// OwnGateways returns the addresses of the network's bridge by which packets leave it, with the lengths of their
// subnets; none if they leave another way.
func (nw Network) OwnGateways() []netip.Prefix {
	if nw.Foreign { // the bridge was weave's once
		return nil
	}
	return nw.gateways()
}

// Translates reports whether packets from this address leave by the network's own gateway with the host's.
func (def Definition) Translates(addr netip.Addr) bool { return def.NAT.translates(addr) }

// bridgeAddresses returns what the network's bridge has for the sake of its gateways: these, and with one of IPv6 a
// link-local address. With that the kernel asks for containers to which it routes; without one it does not ask at all
// (ndisc_send_ns of its net/ipv6/ndisc.c), and they are reached only as long as they have asked for the gateway lately.
func (def Definition) bridgeAddresses() []netip.Prefix {
	out := def.gateways()
	if slices.ContainsFunc(out, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		out = append(out, def.linkLocal())
	}
	return out
}

// linkLocal is a link-local address of the network's own: a router among the containers may have fe80::1.
func (def Definition) linkLocal() netip.Prefix {
	hash := sha256.Sum256([]byte(def.ID))
	a := netip.MustParseAddr("fe80::").As16()
	copy(a[8:], hash[:8])
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// poolGateways returns the gateways that Docker has given the network, with the lengths of their subnets.
func (def Definition) poolGateways() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range def.Pools {
		if p.Gateway.IsValid() {
			out = append(out, netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))
		}
	}
	return out
}

// gatewaysOf returns the gateways of an endpoint, those that it reaches by its addresses. The router itself has none.
func (def Definition) gatewaysOf(ep Endpoint) (ipv4, ipv6 netip.Addr) {
	all, _ := def.Gateway.routers() // it was read before
	if def.hasGateway() || def.Gateway.container() != "" && !def.isRouter(ep) {
		for _, p := range def.poolGateways() {
			all = append(all, p.Addr())
		}
	}
	for _, addr := range all {
		reaches := func(a netip.Prefix) bool { return a.Masked().Contains(addr) }
		switch {
		case !slices.ContainsFunc(ep.Addresses, reaches) || ep.has(addr): // such an endpoint is the router itself
		case addr.Is4() && !ipv4.IsValid():
			ipv4 = addr
		case addr.Is6() && !ipv6.IsValid():
			ipv6 = addr
		}
	}
	return ipv4, ipv6
}

// chooseGateway returns the way out of a network for which nobody has chosen one: a gateway of its own, or Docker's
// where it can't have one.
func (d *Driver) chooseGateway(ctx context.Context, spec NetworkSpec) (Gateway, error) {
	if spec.Internal {
		return spec.Gateway, nil
	}
	foreign, err := spec.hasForeignBridge()
	if err != nil {
		return "", err
	}
	// Before Docker 28, and of Swarm's networks, nothing tells whether somebody has typed the gateway, or Docker has
	// picked an address.
	typed := spec.Announced && !spec.Swarm
	if routers := spec.poolGateways(); foreign && typed && len(routers) > 0 && spec.NAT == NATAll && !spec.HostApart {
		return routersGateway(routers), nil
	}
	own := spec.Definition
	own.Gateway = GatewayAuto
	if spec.NAT != NATAll || spec.HostApart {
		return own.Gateway, nil // so that it is refused if the network can't have it
	}
	err = cmp.Or(own.checkGateway(), d.checkOwnGateway(ctx, own))
	switch {
	case foreign:
		err = errors.New("its bridge was not made by weave, and nobody has named a router")
	case err != nil && !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrConflict):
		return "", err
	case err == nil:
		return own.Gateway, nil
	}
	d.log.WithField("network", spec.ID).WithError(err).Infof("the way out is %s", WayOut)
	return GatewayDocker, nil
}

// hasForeignBridge reports whether somebody else has made the bridge that the user has named.
func (spec NetworkSpec) hasForeignBridge() (bool, error) {
	if spec.Bridge == "" {
		return false, nil
	}
	link, err := findLink(spec.Bridge)
	if err != nil || link == nil {
		return false, err
	}
	a, ours := parseAlias(link.Attrs().Alias)
	return !ours || a.ID != string(spec.ID), nil
}

// NeedsGateways reports whether Docker has to take an address for the gateway of each subnet though nobody has named
// one. Not all of the spec is known when Docker asks that.
func (spec NetworkSpec) NeedsGateways() bool {
	foreign, err := spec.hasForeignBridge()
	if err != nil || foreign {
		routers, _ := spec.Gateway.routers()
		return len(routers) > 0 // so that no container gets a router's; for what Docker takes, see checkRouters
	}
	return !spec.Internal && (spec.Gateway == "" || spec.hasGateway() || spec.Gateway.container() != "")
}

// InContainer returns the addresses that an endpoint has in its container: its own, and on a router also those of the
// gateways, without their subnets.
func (def Definition) InContainer(ep Endpoint) []netip.Prefix {
	out := slices.Clone(ep.Addresses)
	if def.isRouter(ep) {
		for _, gateway := range def.poolGateways() {
			out = append(out, netip.PrefixFrom(gateway.Addr(), gateway.Addr().BitLen()))
		}
	}
	return out
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
	case (def.hasGateway() || def.Gateway.container() != "") && len(def.poolGateways()) == 0:
		return invalidOption(optionGateway, string(def.Gateway),
			"the network has no subnet with a gateway: give it a subnet (--subnet), and an IPAM driver other than null")
	case def.NAT != NATAll && !def.Internal && !def.hasGateway():
		return invalidOption(optionNAT, string(def.NAT), "weave translates only what leaves by a gateway of the "+
			"network's own, and this network has another one: leave the option out, or give "+optionGateway+"=auto")
	case def.HostApart && !def.hasGateway():
		return invalidOption(optionHost, "no", "only over a gateway of the network's own can containers reach the "+
			"host, and this network has none: leave the option out")
	}
	for _, router := range routers {
		inSubnet := func(p Pool) bool { return p.Subnet.Contains(router) && p.Subnet.Addr() != router }
		if !slices.ContainsFunc(def.Pools, inSubnet) {
			return invalidOption(optionGateway, string(def.Gateway), "the router is in no subnet of the network")
		}
	}
	return nil
}

// checkOwnGateway returns ErrConflict or ErrInvalid if the host can't be the gateway of the network.
func (d *Driver) checkOwnGateway(ctx context.Context, def Definition) error {
	if !def.hasGateway() {
		return nil
	}
	routes, err := HostRoutes(ctx)
	if err != nil {
		return err
	}
	return errors.Join(def.checkRoutes(routes), d.checkRules(def))
}

// checkRules returns ErrInvalid for gateways of a family that weave writes no rules for: nothing would keep others out.
// Without rules for IPv6 nothing would keep containers from the link-local address that every such bridge has.
func (d *Driver) checkRules(def Definition) error {
	if def.HostApart && def.hasGateway() && !d.firewallMode.Covers(netip.IPv6Unspecified()) {
		return fmt.Errorf("%w: %s=no needs firewall rules for IPv6, too, and weave serve has --firewall=%s: have "+
			"weave write them (--firewall=auto), or leave the option out", ErrInvalid, optionHost, d.firewallMode)
	}
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
		optionGateway, def.Gateway, optionGateway, GatewayAuto)
}
