// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/internal/nstest"
)

func TestHostRoutes(t *testing.T) {
	host, peer := nstest.New(t), nstest.New(t)
	nstest.Veth(t, peer, host, "peer0", "192.0.2.1/24")
	var got []netip.Prefix
	host.Do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for dst, table := range map[string]int{
			"0.0.0.0/0": 0, "0.0.0.0/1": 0, "128.0.0.0/1": 100, "fc00::/7": 0, // a default route, and one in pieces
			"10.0.0.0/8": 0, "10.40.0.0/16": 100, "fd00:7::/48": 0,
		} {
			_, network, err := net.ParseCIDR(dst)
			if err != nil {
				return err
			}
			route := netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: network, Table: table}
			if err := netlink.RouteAdd(&route); err != nil {
				return err
			}
		}
		got, err = HostRoutes(t.Context())
		return err
	})
	for dst, want := range map[string]bool{
		"192.0.2.0/24": true, "10.0.0.0/8": true, "10.40.0.0/16": true, "fd00:7::/48": true,
		"0.0.0.0/0": false, "0.0.0.0/1": false, "128.0.0.0/1": false, "fc00::/7": false,
	} {
		if there := slices.Contains(got, netip.MustParsePrefix(dst)); there != want {
			t.Errorf("%s is among the routes: %t, want %t", dst, there, want)
		}
	}
}
