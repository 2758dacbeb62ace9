// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
)

const (
	netID = driver.NetworkID("7d2a4352179e00f14c5fbe322bff4b586f4cef09e5a4bda73851b8725299a4bc")
	epID  = driver.EndpointID("3345ac4971c9e239a8690fd27572bb369374017ee2c95f6faa11225d4a09c855")
)

var compareAddresses = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

// generic returns a request with options that the user typed, as pairs of a name and a value.
func generic(pairs ...string) network.CreateNetworkRequest {
	options := map[string]any{}
	for pair := range slices.Chunk(pairs, 2) {
		options[pair[0]] = pair[1]
	}
	return label(labelGeneric, options)
}

// label returns a request with an option of Docker's own.
func label(key string, value any) network.CreateNetworkRequest {
	return network.CreateNetworkRequest{Options: map[string]any{key: value}}
}

// ipv4 returns a request with an IPv4 subnet.
func ipv4(data network.IPAMData) network.CreateNetworkRequest {
	return network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{&data}}
}

// defined returns the spec of a network that is defined so.
func defined(def driver.Definition) driver.NetworkSpec { return driver.NetworkSpec{Definition: def} }

func TestNetworkSpec(t *testing.T) {
	nas := func(address string) map[string]any { return map[string]any{"nas": address} }
	subnets := network.CreateNetworkRequest{
		IPv4Data: []*network.IPAMData{{
			AddressSpace: "LocalDefault", Pool: "10.40.0.0/16",
			Gateway: "10.40.0.254/16", AuxAddresses: nas("10.40.0.9/16"),
		}},
		IPv6Data: []*network.IPAMData{{Pool: "fd00:40::/64"}},
	}
	noSubnets := network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{nil, {}}}
	mapped := network.CreateNetworkRequest{IPv6Data: []*network.IPAMData{{Pool: "::ffff:10.1.0.0/112"}}}
	number := map[string]any{"works.weave.mtu": 1400.0}
	auxOutside := network.IPAMData{Pool: "10.0.0.0/24", AuxAddresses: nas("10.0.1.1/24")}
	gatewayOutside := network.IPAMData{Pool: "10.0.0.0/24", Gateway: "10.0.1.1/24"}
	mtu := func(mtu int) driver.NetworkSpec { return defined(driver.Definition{MTU: mtu}) }
	tests := []struct {
		name string
		req  network.CreateNetworkRequest
		want driver.NetworkSpec
		err  string

		unknown []string
	}{
		{name: "no options"},
		{name: "null generic", req: label(labelGeneric, nil)},
		{
			name: "subnets", req: subnets,
			want: defined(driver.Definition{Pools: []driver.Pool{
				{
					Subnet: netip.MustParsePrefix("10.40.0.0/16"), Gateway: netip.MustParseAddr("10.40.0.254"),
					Reserved: []netip.Addr{netip.MustParseAddr("10.40.0.9")}, Space: "LocalDefault",
				},
				{Subnet: netip.MustParsePrefix("fd00:40::/64")},
			}}),
		},
		{name: "subnet left out", req: noSubnets},
		{name: "mtu", req: generic("works.weave.mtu", "9000"), want: mtu(9000)},
		{name: "Docker's mtu", req: generic("com.docker.network.driver.mtu", "1400"), want: mtu(1400)},
		{
			name: "mtu not a number", req: generic("works.weave.mtu", "big"),
			err: `option works.weave.mtu: "big": want 68..65535`,
		},
		{name: "bridge", req: generic("works.weave.bridge", "br0"), want: driver.NetworkSpec{Bridge: "br0"}},
		{name: "4in6 pool", req: mapped, err: "want a subnet"},
		{
			name: "multicast", req: generic("works.weave.multicast", "true"),
			want: defined(driver.Definition{Multicast: true}),
		},
		{
			name: "unknown option", req: generic("works.weave.mut", "1400"),
			err: `unknown option works.weave.mut="1400": ` +
				`weave takes works.weave.bridge, works.weave.firewall, works.weave.gateway, works.weave.guard, ` +
				`works.weave.host, works.weave.mtu, works.weave.multicast, works.weave.nat`,
		},
		{
			name: "unknown option of Docker's", req: generic("com.docker.network.new", "1"),
			unknown: []string{"com.docker.network.new"},
		},
		{
			name: "unknown key of Docker's", req: label("com.docker.network.newer", 1),
			unknown: []string{"com.docker.network.newer"},
		},
		{name: "keys of every engine", req: label(labelEnableIPv6, true)},
		{
			name: "option that protects", req: generic("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
			err: `option com.docker.network.bridge.host_binding_ipv4: "127.0.0.1": `,
		},
		{
			name: "prefix", req: generic("com.docker.network.container_iface_prefix", "net"),
			want: defined(driver.Definition{InterfacePrefix: "net"}),
		},
		{
			name: "firewall and guard", req: generic("works.weave.firewall", "host", "works.weave.guard", "0"),
			want: defined(driver.Definition{Firewall: driver.FirewallHost, Guard: driver.GuardOff}),
		},
		{name: "unknown key outside generic", req: label("foo", 1), err: `unknown option foo="1"`},
		{name: "option not a string", req: label(labelGeneric, number), err: "a string"},
		{name: "generic not an object", req: label(labelGeneric, "x"), err: "an object of strings"},
		{name: "internal", req: label(labelInternal, true), want: defined(driver.Definition{Internal: true})},
		{name: "not internal", req: label(labelInternal, false)},
		{name: "Docker that announces", req: label(labelEnableIPv4, true), want: driver.NetworkSpec{Announced: true}},
		{name: "malformed pool", req: ipv4(network.IPAMData{Pool: "10.0.0.0"}), err: "want a subnet"},
		{name: "auxiliary address outside", req: ipv4(auxOutside), err: "nas"},
		{name: "gateway outside", req: ipv4(gatewayOutside), err: "want an address of 10.0.0.0/24"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.NetworkID, tt.want.ID = string(netID), netID
			got, unknown, err := networkSpec(&tt.req)
			err = errors.Join(err, got.Refused)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, driver.ErrInvalid) {
					t.Fatalf("error %v, want ErrInvalid with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, compareAddresses); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if !slices.Equal(unknown, tt.unknown) {
				t.Errorf("unknown %q, want %q", unknown, tt.unknown)
			}
		})
	}
}

func TestEndpointSpec(t *testing.T) {
	withMAC := func(text string) *network.EndpointInterface { return &network.EndpointInterface{MacAddress: text} }
	tests := []struct {
		name    string
		iface   *network.EndpointInterface
		options map[string]any
		want    driver.EndpointSpec
		unknown []string
		err     string
	}{
		{name: "no interface"},
		{name: "empty interface", iface: &network.EndpointInterface{}},
		{
			name: "both families and a MAC",
			iface: &network.EndpointInterface{
				Address: "10.32.0.5/22", AddressIPv6: "fd00::5/64", MacAddress: "02-42-0A-20-00-05",
			},
			want: driver.EndpointSpec{
				MAC:       mac.MustParse("02:42:0a:20:00:05"),
				Addresses: []netip.Prefix{netip.MustParsePrefix("10.32.0.5/22"), netip.MustParsePrefix("fd00::5/64")},
			},
		},
		{name: "Docker's options pass", options: map[string]any{
			"com.docker.network.portmap": []any{}, "com.docker.network.endpoint.exposedports": []any{},
			"com.docker.network.endpoint.macaddress": "AkIKIAAF", "com.docker.network.endpoint.dnsservers": []any{"a"},
			"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1",
		}},
		{
			name:    "unknown options of Docker's",
			options: map[string]any{"com.docker.network.new": []any{}, "com.docker.network.newer": "1"},
			unknown: []string{"com.docker.network.new", "com.docker.network.newer"},
		},
		{
			name: "router", options: map[string]any{"works.weave.router": "true"},
			want: driver.EndpointSpec{Router: true},
		},
		{name: "router that is no text", options: map[string]any{"works.weave.router": true}, err: "want a string"},
		{
			name:    "name of the interface",
			options: map[string]any{"com.docker.network.endpoint.ifname": "lan"},
			err:     `option com.docker.network.endpoint.ifname: "lan": a plugin can't`,
		},
		{name: "unknown option", options: map[string]any{"works.weave.ip": "1"}, err: `option works.weave.ip="1"`},
		{name: "no mask", iface: &network.EndpointInterface{Address: "10.32.0.5"}, err: `address "10.32.0.5"`},
		{name: "multicast MAC", iface: withMAC("03:00:00:00:00:01"), err: "the first one even"},
		{name: "MAC of eight bytes", iface: withMAC("02:00:00:00:00:01:02:03"), err: "six bytes"},
		{name: "MAC of zeros", iface: withMAC("00:00:00:00:00:00"), err: "not all zero"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := network.CreateEndpointRequest{
				NetworkID: string(netID), EndpointID: string(epID), Interface: tt.iface, Options: tt.options,
			}
			tt.want.ID, tt.want.Network = epID, netID
			got, unknown, err := endpointSpec(&req)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, driver.ErrInvalid) {
					t.Fatalf("error %v, want ErrInvalid with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, compareAddresses); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if !slices.Equal(unknown, tt.unknown) {
				t.Errorf("unknown %q, want %q", unknown, tt.unknown)
			}
		})
	}
}

func FuzzNetworkSpec(f *testing.F) {
	f.Add([]byte(`{"NetworkID":"7d2a4352179e",
		"Options":{"com.docker.network.generic":{"works.weave.mtu":"1400"}},
		"IPv4Data":[{"Pool":"10.0.0.0/8","Gateway":"10.0.0.1/8"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var req network.CreateNetworkRequest
		if json.Unmarshal(body, &req) != nil {
			return
		}
		spec, _, err := networkSpec(&req)
		if err != nil {
			if !errors.Is(err, driver.ErrInvalid) {
				t.Errorf("error %v, want ErrInvalid", err)
			}
			return
		}
		badMTU := spec.MTU != 0 && (spec.MTU < driver.MinMTU || spec.MTU > driver.MaxMTU)
		if string(spec.ID) != req.NetworkID || badMTU || len(spec.Bridge) > 15 {
			t.Errorf("accepted %+v", spec)
		}
	})
}

// FuzzEndpointSpec: a request is ErrInvalid, or gives an endpoint that has what the request named, and the same one
// when Docker repeats the request.
func FuzzEndpointSpec(f *testing.F) {
	for _, s := range []string{
		`{"NetworkID":"7d2a4352179e","EndpointID":"3f2a4352179e",
		"Interface":{"Address":"10.0.0.2/8","AddressIPv6":"fd00::2/64","MacAddress":"02:42:0A:00:00:02"}}`,
		`{"NetworkID":"7d2a4352179e","EndpointID":"3f2a4352179e","Options":{"com.docker.network.portmap":[]}}`,
		`{"NetworkID":"7d2a4352179e","EndpointID":"3f2a4352179e","Options":{"works.weave.x":1}}`,
		`{"NetworkID":"7d2a4352179e","EndpointID":"3f2a4352179e","Interface":{"MacAddress":"01:00:5e:00:00:01"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req network.CreateEndpointRequest
		if json.Unmarshal(body, &req) != nil {
			return
		}
		ep, _, err := endpointSpec(&req)
		if err != nil {
			if !errors.Is(err, driver.ErrInvalid) {
				t.Errorf("error %v, want ErrInvalid", err)
			}
			return
		}
		if string(ep.ID) != req.EndpointID || string(ep.Network) != req.NetworkID {
			t.Errorf("ids of %+v", ep)
		}
		for key := range req.Options {
			if !strings.HasPrefix(key, labelPrefix) && key != "works.weave.router" {
				t.Errorf("accepted option %s", key)
			}
		}
		var again network.EndpointInterface
		if i := req.Interface; i != nil {
			if ep.MAC.IsZero() != (i.MacAddress == "") {
				t.Errorf("MAC %s of %q", ep.MAC, i.MacAddress)
			}
			again = *i
		} else if !ep.MAC.IsZero() || len(ep.Addresses) > 0 {
			t.Errorf("a MAC or an address though none was requested: %+v", ep)
		}
		again.MacAddress = ep.MAC.String()
		n := 0
		for _, text := range []*string{&again.Address, &again.AddressIPv6} {
			if *text != "" {
				*text = ep.Addresses[n].String()
				n++
			}
		}
		req.Interface = &again
		if ep2, _, err := endpointSpec(&req); err != nil {
			t.Errorf("repeated: %v", err)
		} else if diff := cmp.Diff(ep, ep2, compareAddresses); diff != "" {
			t.Errorf("repeated (-first +second):\n%s", diff)
		}
	})
}
