package driver

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const (
	netID = NetworkID("7d2a4352179e00f14c5fbe322bff4b586f4cef09e5a4bda73851b8725299a4bc")
	epID  = EndpointID("3345ac4971c9e239a8690fd27572bb369374017ee2c95f6faa11225d4a09c855")
)

var comparePrefixes = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

func user(pairs ...string) map[string]any {
	generic := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		generic[pairs[i]] = pairs[i+1]
	}
	return map[string]any{dockerGeneric: generic}
}

func TestParseNetwork(t *testing.T) {
	v4 := []*network.IPAMData{{AddressSpace: "LocalDefault", Pool: "10.40.0.0/16", Gateway: "10.40.0.254/16", AuxAddresses: map[string]any{"nas": "10.40.0.9/16"}}}
	v6 := []*network.IPAMData{{Pool: "fd00:40::/64"}}
	tests := []struct {
		name string
		req  network.CreateNetworkRequest
		want Network
		err  string
	}{
		{name: "no options", want: Network{MTU: 1500}},
		{name: "null generic", req: network.CreateNetworkRequest{Options: map[string]any{dockerGeneric: nil}}, want: Network{MTU: 1500}},
		{
			name: "subnets",
			req:  network.CreateNetworkRequest{IPv4Data: v4, IPv6Data: v6},
			want: Network{MTU: 1500, Pools: []Pool{
				{Subnet: netip.MustParsePrefix("10.40.0.0/16"), Gateway: netip.MustParseAddr("10.40.0.254"), Reserved: []netip.Addr{netip.MustParseAddr("10.40.0.9")}, Space: "LocalDefault"},
				{Subnet: netip.MustParsePrefix("fd00:40::/64")},
			}},
		},
		{name: "subnet left out", req: network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{nil, {}}}, want: Network{MTU: 1500}},
		{name: "mtu", req: network.CreateNetworkRequest{Options: user("works.weave.mtu", "9000")}, want: Network{MTU: 9000}},
		{name: "Docker's mtu", req: network.CreateNetworkRequest{Options: user("com.docker.network.driver.mtu", "1400")}, want: Network{MTU: 1400}},
		{name: "both the same", req: network.CreateNetworkRequest{Options: user(optionMTU, "1400", optionDockerMTU, "1400")}, want: Network{MTU: 1400}},
		{name: "both different", req: network.CreateNetworkRequest{Options: user(optionMTU, "1400", optionDockerMTU, "1500")}, err: "mean the same"},
		{name: "mtu not a number", req: network.CreateNetworkRequest{Options: user(optionMTU, "big")}, err: `option works.weave.mtu: "big": want 68..65535`},
		{name: "mtu too small", req: network.CreateNetworkRequest{Options: user(optionMTU, "67")}, err: "want 68..65535"},
		{name: "mtu too small for IPv6", req: network.CreateNetworkRequest{Options: user(optionMTU, "1279"), IPv6Data: v6}, err: "at least 1280"},
		{name: "bridge", req: network.CreateNetworkRequest{Options: user(optionBridge, "br0")}, want: Network{MTU: 1500, Bridge: "br0"}},
		{name: "bridge too long", req: network.CreateNetworkRequest{Options: user(optionBridge, "sixteen-bytes-xx")}, err: "want 1 to 15 bytes"},
		{name: "bridge as an option of iptables", req: network.CreateNetworkRequest{Options: user(optionBridge, "-j")}, err: "not a name"},
		{name: "bridge as a wildcard", req: network.CreateNetworkRequest{Options: user(optionBridge, "br+")}, err: "want letters, digits"},
		{name: "bridge of weave's prefix", req: network.CreateNetworkRequest{Options: user(optionBridge, "wv-1")}, err: "weave's own"},
		{name: "Docker's bridge", req: network.CreateNetworkRequest{Options: user(optionBridge, "docker_gwbridge")}, err: "Docker's own"},
		{name: "bridge of a network of Docker's", req: network.CreateNetworkRequest{Options: user(optionBridge, "br-0123456789ab")}, err: "Docker's own"},
		{name: "4in6 pool", req: network.CreateNetworkRequest{IPv6Data: []*network.IPAMData{{Pool: "::ffff:10.1.0.0/112"}}}, err: "want a subnet"},
		{name: "multicast", req: network.CreateNetworkRequest{Options: user(optionMulticast, "true")}, want: Network{MTU: 1500, Multicast: true}},
		{name: "multicast off", req: network.CreateNetworkRequest{Options: user(optionMulticast, "false")}, want: Network{MTU: 1500}},
		{name: "multicast maybe", req: network.CreateNetworkRequest{Options: user(optionMulticast, "yes")}, err: `option works.weave.multicast: "yes": want true or false`},
		{name: "unknown option", req: network.CreateNetworkRequest{Options: user("works.weave.mut", "1400")}, err: `unknown option works.weave.mut="1400": weave takes works.weave.bridge, works.weave.mtu, works.weave.multicast`},
		{name: "unknown option of Docker's", req: network.CreateNetworkRequest{Options: user("com.docker.network.new", "1")}, want: Network{MTU: 1500}},
		{name: "unknown key outside generic", req: network.CreateNetworkRequest{Options: map[string]any{"foo": 1}}, err: `unknown option foo="1"`},
		{name: "option not a string", req: network.CreateNetworkRequest{Options: map[string]any{dockerGeneric: map[string]any{optionMTU: 1400.0}}}, err: "a string"},
		{name: "generic not an object", req: network.CreateNetworkRequest{Options: map[string]any{dockerGeneric: "x"}}, err: "an object of strings"},
		{name: "internal", req: network.CreateNetworkRequest{Options: map[string]any{dockerInternal: true}}, want: Network{MTU: 1500, Internal: true}},
		{name: "internal by config", req: network.CreateNetworkRequest{Options: map[string]any{dockerInternal: false}}, want: Network{MTU: 1500}},
		{name: "engine that announces", req: network.CreateNetworkRequest{Options: map[string]any{dockerEnableIPv4: true}}, want: Network{MTU: 1500, Announced: true}},
		{name: "malformed pool", req: network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{{Pool: "10.0.0.0"}}}, err: "want a subnet"},
		{name: "auxiliary address outside", req: network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{{Pool: "10.0.0.0/24", AuxAddresses: map[string]any{"nas": "10.0.1.1/24"}}}}, err: "nas"},
		{name: "gateway outside", req: network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{{Pool: "10.0.0.0/24", Gateway: "10.0.1.1/24"}}}, err: "want an address of 10.0.0.0/24"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.NetworkID, tt.want.ID = string(netID), netID
			got, err := parseNetwork(&tt.req, 1500)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, ErrInvalid) {
					t.Fatalf("error %v, want ErrInvalid with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, comparePrefixes); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestParseEndpoint(t *testing.T) {
	tests := []struct {
		name    string
		iface   *network.EndpointInterface
		options map[string]any
		want    Endpoint
		err     string
	}{
		{name: "no interface"},
		{name: "empty interface", iface: &network.EndpointInterface{}},
		{
			name:  "both families and a MAC",
			iface: &network.EndpointInterface{Address: "10.32.0.5/22", AddressIPv6: "fd00::5/64", MacAddress: "02-42-0A-20-00-05"},
			want:  Endpoint{MAC: "02:42:0a:20:00:05", Addresses: []netip.Prefix{netip.MustParsePrefix("10.32.0.5/22"), netip.MustParsePrefix("fd00::5/64")}},
		},
		{name: "Docker's options pass", options: map[string]any{"com.docker.network.portmap": []any{}}},
		{name: "unknown option", options: map[string]any{"works.weave.ip": "1"}, err: `unknown option works.weave.ip="1"`},
		{name: "address without a mask", iface: &network.EndpointInterface{Address: "10.32.0.5"}, err: `address "10.32.0.5"`},
		{name: "multicast MAC", iface: &network.EndpointInterface{MacAddress: "03:00:00:00:00:01"}, err: "the first one even"},
		{name: "MAC of eight bytes", iface: &network.EndpointInterface{MacAddress: "02:00:00:00:00:01:02:03"}, err: "six bytes"},
		{name: "MAC of zeros", iface: &network.EndpointInterface{MacAddress: "00:00:00:00:00:00"}, err: "not all zero"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := network.CreateEndpointRequest{NetworkID: string(netID), EndpointID: string(epID), Interface: tt.iface, Options: tt.options}
			tt.want.ID, tt.want.Network = epID, netID
			got, err := parseEndpoint(&req)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, ErrInvalid) {
					t.Fatalf("error %v, want ErrInvalid with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, comparePrefixes); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestNames(t *testing.T) {
	swarm := NetworkID("x7k2m9q4w1e8r5t3y6u0i2o4p")
	for got, want := range map[string]string{
		bridgeName(netID):              "wv-7d2a4352179e",
		bridgeName(swarm):              "wv-x7k2m9q4w1e8",
		hostEndName(epID):              "wve-3345ac4971c",
		containerEndName(epID):         "wvc-3345ac4971c",
		bridgeName("123456789012"):     "wv-123456789012",
		hostEndName("12345678901234"):  "wve-12345678901",
		networkAlias("0011", "abc"):    "weave:0011:network:abc",
		endpointAlias("0011", "abcde"): "weave:0011:endpoint:abcde",
	} {
		if got != want || len(got) > maxName && !strings.HasPrefix(got, aliasPrefix) {
			t.Errorf("name %q, want %q", got, want)
		}
	}
	for _, id := range []string{"", "short", "7d2a4352179e/../etc", "7d2a4352179e ", strings.Repeat("a", 65)} {
		if err := NetworkID(id).check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("id %q: error %v, want ErrInvalid", id, err)
		}
	}
}

// TestMACIsRandomAndUnicast checks the two bits that make a MAC locally administered and unicast.
func TestMACIsRandomAndUnicast(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		mac := newMAC(nil)
		hw, err := parseHardwareAddr(mac)
		if err != nil || hw[0]&3 != 2 {
			t.Fatalf("MAC %s: %v, want locally administered, unicast", mac, err)
		}
		if seen[mac] {
			t.Fatalf("MAC %s twice in a thousand", mac)
		}
		seen[mac] = true
	}
}

func FuzzParseNetwork(f *testing.F) {
	f.Add([]byte(`{"NetworkID":"7d2a4352179e","Options":{"com.docker.network.generic":{"works.weave.mtu":"1400"}},"IPv4Data":[{"Pool":"10.0.0.0/8","Gateway":"10.0.0.1/8"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var req network.CreateNetworkRequest
		if json.Unmarshal(body, &req) != nil {
			return
		}
		nw, err := parseNetwork(&req, 1500)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("error %v, want ErrInvalid", err)
			}
			return
		}
		if nw.MTU < MinMTU || nw.MTU > MaxMTU || len(nw.Bridge) > maxName || nw.ID.check() != nil {
			t.Errorf("accepted %+v", nw)
		}
	})
}
