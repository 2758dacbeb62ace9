// SPDX-License-Identifier: Apache-2.0

package nstest

import (
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/mac"
)

// Veth connects host and inside by a veth pair like that of an endpoint: hostEnd in host and eth0, with the
// addresses, in inside. Both ends are up. It returns the index of the host end and the MAC of eth0.
func Veth(t testing.TB, host, inside *NS, hostEnd string, addresses ...string) (index int, address mac.Address) {
	t.Helper()
	host.Do(t, func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = hostEnd
		pair := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(inside.FD())}
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("add veth pair %s: %w", hostEnd, err)
		}
		link, err := netlink.LinkByName(hostEnd)
		if err != nil {
			return err
		}
		index = link.Attrs().Index
		return netlink.LinkSetUp(link)
	})
	inside.Do(t, func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		address = mac.FromBytes(link.Attrs().HardwareAddr)
		for _, a := range addresses {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			if err := netlink.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("add address %s: %w", a, err)
			}
		}
		return netlink.LinkSetUp(link)
	})
	return index, address
}
