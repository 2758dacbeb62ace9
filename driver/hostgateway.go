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

	"github.com/weaveplugin/weave/internal/mac"
)

// addressesAt returns the addresses of a link, with the lengths of their subnets, but for link-local ones; none if
// there is no such link.
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
		if !a.IP.IsLinkLocalUnicast() {
			out = append(out, prefixOf(a.IPNet))
		}
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

// gatewayMAC is a MAC for a bridge with a gateway. Without one of its own a bridge has the lowest of its ports', and
// when that port goes, the containers lose their gateway until they ask for it again. The gateways of a network of the
// cluster have one MAC on all hosts: containers hear the ARP requests of other hosts' gateways, which have the address
// of their own, and would take them for it.
func (def Definition) gatewayMAC() mac.Address {
	if def.VNI != 0 {
		return mac.Address{2, 'w', 'v', byte(def.VNI >> 16), byte(def.VNI >> 8), byte(def.VNI)}
	}
	return newMAC(nil)
}

// forwards are the sysctls by which the host routes packets; true: IPv6.
var forwards = map[bool]string{false: "net/ipv4/ip_forward", true: "net/ipv6/conf/all/forwarding"}

// forward has the host route packets of the families of these gateways, and tells when it did not before.
func (d *Driver) forward(gateways []netip.Prefix) error {
	var errs []error
	for is6, sysctl := range forwards {
		needed := func(g netip.Prefix) bool { return g.Addr().Is6() == is6 && d.firewallMode.Covers(g.Addr()) }
		if !slices.ContainsFunc(gateways, needed) {
			continue
		}
		if err := d.switchOn(sysctl); err != nil {
			errs = append(errs, fmt.Errorf("have the host route packets: %w", err))
		}
	}
	return errors.Join(errs...)
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
