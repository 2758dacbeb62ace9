package remote

import (
	"encoding/json"
	"errors"
	"net/netip"
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

func user(pairs ...string) map[string]any {
	generic := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		generic[pairs[i]] = pairs[i+1]
	}
	return map[string]any{labelGeneric: generic}
}

func TestNetworkSpec(t *testing.T) {
	v4 := []*network.IPAMData{{
		AddressSpace: "LocalDefault", Pool: "10.40.0.0/16", Gateway: "10.40.0.254/16",
		AuxAddresses: map[string]any{"nas": "10.40.0.9/16"},
	}}
	v6 := []*network.IPAMData{{Pool: "fd00:40::/64"}}
	tests := []struct {
		name string
		req  network.CreateNetworkRequest
		want driver.NetworkSpec
		err  string
	}{
		{name: "no options", want: driver.NetworkSpec{}},
		{
			name: "null generic",
			req:  network.CreateNetworkRequest{Options: map[string]any{labelGeneric: nil}},
			want: driver.NetworkSpec{},
		},
		{
			name: "subnets",
			req:  network.CreateNetworkRequest{IPv4Data: v4, IPv6Data: v6},
			want: driver.NetworkSpec{Definition: driver.Definition{Pools: []driver.Pool{
				{
					Subnet: netip.MustParsePrefix("10.40.0.0/16"), Gateway: netip.MustParseAddr("10.40.0.254"),
					Reserved: []netip.Addr{netip.MustParseAddr("10.40.0.9")}, Space: "LocalDefault",
				},
				{Subnet: netip.MustParsePrefix("fd00:40::/64")},
			}}},
		},
		{
			name: "subnet left out",
			req:  network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{nil, {}}},
			want: driver.NetworkSpec{},
		},
		{
			name: "mtu",
			req:  network.CreateNetworkRequest{Options: user("works.weave.mtu", "9000")},
			want: driver.NetworkSpec{Definition: driver.Definition{MTU: 9000}},
		},
		{
			name: "Docker's mtu",
			req:  network.CreateNetworkRequest{Options: user("com.docker.network.driver.mtu", "1400")},
			want: driver.NetworkSpec{Definition: driver.Definition{MTU: 1400}},
		},
		{
			name: "mtu not a number",
			req:  network.CreateNetworkRequest{Options: user("works.weave.mtu", "big")},
			err:  `option works.weave.mtu: "big": want 68..65535`,
		},
		{
			name: "bridge",
			req:  network.CreateNetworkRequest{Options: user("works.weave.bridge", "br0")},
			want: driver.NetworkSpec{Bridge: "br0"},
		},
		{
			name: "4in6 pool",
			req:  network.CreateNetworkRequest{IPv6Data: []*network.IPAMData{{Pool: "::ffff:10.1.0.0/112"}}},
			err:  "want a subnet",
		},
		{
			name: "multicast",
			req:  network.CreateNetworkRequest{Options: user("works.weave.multicast", "true")},
			want: driver.NetworkSpec{Definition: driver.Definition{Multicast: true}},
		},
		{
			name: "unknown option",
			req:  network.CreateNetworkRequest{Options: user("works.weave.mut", "1400")},
			err: `unknown option works.weave.mut="1400": ` +
				"weave takes works.weave.bridge, works.weave.mtu, works.weave.multicast",
		},
		{
			name: "unknown option of Docker's",
			req:  network.CreateNetworkRequest{Options: user("com.docker.network.new", "1")},
			want: driver.NetworkSpec{},
		},
		{
			name: "unknown key outside generic",
			req:  network.CreateNetworkRequest{Options: map[string]any{"foo": 1}},
			err:  `unknown option foo="1"`,
		},
		{
			name: "option not a string",
			req: network.CreateNetworkRequest{Options: map[string]any{
				labelGeneric: map[string]any{"works.weave.mtu": 1400.0},
			}},
			err: "a string",
		},
		{
			name: "generic not an object",
			req:  network.CreateNetworkRequest{Options: map[string]any{labelGeneric: "x"}},
			err:  "an object of strings",
		},
		{
			name: "internal",
			req:  network.CreateNetworkRequest{Options: map[string]any{labelInternal: true}},
			want: driver.NetworkSpec{Definition: driver.Definition{Internal: true}},
		},
		{
			name: "internal by config",
			req:  network.CreateNetworkRequest{Options: map[string]any{labelInternal: false}},
			want: driver.NetworkSpec{},
		},
		{
			name: "Docker that announces",
			req:  network.CreateNetworkRequest{Options: map[string]any{labelEnableIPv4: true}},
			want: driver.NetworkSpec{Announced: true},
		},
		{
			name: "malformed pool",
			req:  network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{{Pool: "10.0.0.0"}}},
			err:  "want a subnet",
		},
		{
			name: "auxiliary address outside",
			req: network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{{
				Pool: "10.0.0.0/24", AuxAddresses: map[string]any{"nas": "10.0.1.1/24"},
			}}},
			err: "nas",
		},
		{
			name: "gateway outside",
			req: network.CreateNetworkRequest{IPv4Data: []*network.IPAMData{{
				Pool: "10.0.0.0/24", Gateway: "10.0.1.1/24",
			}}},
			err: "want an address of 10.0.0.0/24",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.req.NetworkID, tt.want.ID = string(netID), netID
			got, err := networkSpec(&tt.req)
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
		})
	}
}

func TestEndpointSpec(t *testing.T) {
	tests := []struct {
		name    string
		iface   *network.EndpointInterface
		options map[string]any
		want    driver.EndpointSpec
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
				MAC: mac.MustParse("02:42:0a:20:00:05"),
				Addresses: []netip.Prefix{
					netip.MustParsePrefix("10.32.0.5/22"), netip.MustParsePrefix("fd00::5/64"),
				},
			},
		},
		{name: "Docker's options pass", options: map[string]any{"com.docker.network.portmap": []any{}}},
		{
			name:    "unknown option",
			options: map[string]any{"works.weave.ip": "1"},
			err:     `unknown option works.weave.ip="1"`,
		},
		{
			name:  "address without a mask",
			iface: &network.EndpointInterface{Address: "10.32.0.5"},
			err:   `address "10.32.0.5"`,
		},
		{
			name:  "multicast MAC",
			iface: &network.EndpointInterface{MacAddress: "03:00:00:00:00:01"},
			err:   "the first one even",
		},
		{
			name:  "MAC of eight bytes",
			iface: &network.EndpointInterface{MacAddress: "02:00:00:00:00:01:02:03"},
			err:   "six bytes",
		},
		{name: "MAC of zeros", iface: &network.EndpointInterface{MacAddress: "00:00:00:00:00:00"}, err: "not all zero"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := network.CreateEndpointRequest{
				NetworkID: string(netID), EndpointID: string(epID), Interface: tt.iface, Options: tt.options,
			}
			tt.want.ID, tt.want.Network = epID, netID
			got, err := endpointSpec(&req)
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
		})
	}
}

func FuzzNetworkSpec(f *testing.F) {
	f.Add([]byte(`{"NetworkID":"7d2a4352179e","Options":{"com.docker.network.generic":{"works.weave.mtu":"1400"}},` +
		`"IPv4Data":[{"Pool":"10.0.0.0/8","Gateway":"10.0.0.1/8"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var req network.CreateNetworkRequest
		if json.Unmarshal(body, &req) != nil {
			return
		}
		spec, err := networkSpec(&req)
		if err != nil {
			if !errors.Is(err, driver.ErrInvalid) {
				t.Errorf("error %v, want ErrInvalid", err)
			}
			return
		}
		validMTU := spec.MTU == 0 || spec.MTU >= driver.MinMTU && spec.MTU <= driver.MaxMTU
		if string(spec.ID) != req.NetworkID || !validMTU || len(spec.Bridge) > 15 {
			t.Errorf("accepted %+v", spec)
		}
	})
}

// FuzzEndpointSpec: a request is refused as invalid, or gives an endpoint that has what the request named and reads the
// same when Docker repeats it.
func FuzzEndpointSpec(f *testing.F) {
	for _, s := range []string{
		`{"NetworkID":"7d2a4352179e","EndpointID":"3f2a4352179e",` +
			`"Interface":{"Address":"10.0.0.2/8","AddressIPv6":"fd00::2/64","MacAddress":"02:42:0A:00:00:02"}}`,
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
		ep, err := endpointSpec(&req)
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
			if !strings.HasPrefix(key, labelPrefix) {
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
			t.Errorf("an address out of nothing: %+v", ep)
		}
		again.MacAddress = ep.MAC.String()
		addresses := ep.Addresses
		for _, text := range []*string{&again.Address, &again.AddressIPv6} {
			if *text != "" {
				*text, addresses = addresses[0].String(), addresses[1:]
			}
		}
		req.Interface = &again
		if ep2, err := endpointSpec(&req); err != nil {
			t.Errorf("repeated: %v", err)
		} else if diff := cmp.Diff(ep, ep2, compareAddresses); diff != "" {
			t.Errorf("repeated (-first +second):\n%s", diff)
		}
	})
}
