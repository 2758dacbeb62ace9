// SPDX-License-Identifier: Apache-2.0

package hostcheck

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestPorts(t *testing.T) {
	about := func(n int) facts {
		return facts{networks: []driver.Network{own}, ports: map[string]int{"wvg-1": n, "docker0": 1023}}
	}
	check(t, ofPorts, []judged{
		{"few", about(3), api.CheckOK, "at most 3 of 1023, wvg-1"},
		{"just not near", about(818), api.CheckOK, ""},
		{"near", about(819), api.CheckWarning, "bridge wvg-1 has 819 of 1023"},
		{"full", about(1023), api.CheckFailed, "takes no container more"},
		{"no networks", facts{}, api.CheckOK, "no bridge"},
		{"not read", facts{portsErr: errors.New("no")}, api.CheckUnknown, "no"},
	})
}

func TestEndpoints(t *testing.T) {
	about := func(carrier bool, age time.Duration, drift ...api.Drift) facts {
		ep := driver.Endpoint{ID: "e1", HostEnd: "wve-1", Sandbox: "/s", Carrier: carrier, Created: noon.Add(-age)}
		return facts{now: noon, endpoints: []endpoint{{ep, "web", drift}}}
	}
	check(t, ofEndpoints, []judged{
		{"up", about(true, time.Hour), api.CheckOK, "1, all"},
		{"joining", about(false, time.Second), api.CheckOK, ""},
		{"no carrier", about(false, time.Hour), api.CheckFailed, "web: host end wve-1 has no carrier"},
		{"down", about(false, time.Hour, api.Drift{Kind: api.ContainerEndDown, Text: "eth0 down"}),
			api.CheckFailed, "web: eth0 down"},
		{"another MAC", about(true, time.Hour, api.Drift{Kind: api.MACChanged, Text: "MAC x"}), api.CheckWarning,
			"MAC x"},
		{"none", facts{}, api.CheckOK, "0"},
	})
}

func TestAddresses(t *testing.T) {
	twice := asked{total: 3, asked: 3, others: []answer{
		{netip.MustParseAddr("10.32.0.2"), "web", "02:00:00:00:00:09", "which is db"},
	}}
	check(t, ofAddresses, []judged{
		{"one each", facts{asked: []asked{{total: 3, asked: 3}}}, api.CheckOK, "3 were asked for"},
		{"one twice", facts{asked: []asked{twice}}, api.CheckFailed,
			"10.32.0.2 of web is also at 02:00:00:00:00:09, which is db"},
		{"too many", facts{asked: []asked{{total: 300, asked: 256}}}, api.CheckUnknown,
			"of 300 addresses 256 were asked for"},
		{"nobody", facts{asked: []asked{{network: own, total: 3, err: errors.New("no")}}}, api.CheckUnknown,
			"network n1: no"},
	})
}

func TestSubnets(t *testing.T) {
	to := func(nw driver.Network, destination, link string) facts {
		return facts{networks: []driver.Network{nw}, routes: []route{{netip.MustParsePrefix(destination), link}}}
	}
	null := driver.Network{}
	null.Pools = []driver.Pool{{Subnet: netip.MustParsePrefix("0.0.0.0/0")}}
	check(t, ofSubnets, []judged{
		{"by the bridge", to(own, "10.32.0.0/24", "wvg-1"), api.CheckOK, ""},
		{"elsewhere", to(own, "10.33.0.0/24", "tun0"), api.CheckOK, ""},
		{"a default route", to(own, "0.0.0.0/0", "eth0"), api.CheckOK, ""},
		{"a part of it", to(own, "10.32.0.128/25", "tun0"), api.CheckFailed,
			"the host sends to 10.32.0.128/25 out of tun0"},
		{"more than it", to(own, "10.32.0.0/16", "tun0"), api.CheckWarning, "overlaps 10.32.0.0/16"},
		{"without a gateway", to(obeying, "10.32.1.128/25", "tun0"), api.CheckWarning, "overlaps 10.32.1.128/25"},
		{"no subnet", to(null, "10.32.0.0/16", "tun0"), api.CheckOK, ""},
		{"not read", facts{routesErr: errors.New("no")}, api.CheckUnknown, "no"},
	})
}
