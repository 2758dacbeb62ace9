// SPDX-License-Identifier: Apache-2.0

package dockersync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/driver"
	"github.com/weaveplugin/weave/internal/mac"
)

var equalAddresses = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// dockerWithNetworks returns a Docker with two networks of weave's, one that only has its IPAM, and three others.
func dockerWithNetworks(t *testing.T) *fakeDocker {
	d := newFakeDocker(t)
	networks := map[string]string{
		"n1": `{"Id":"n1","Name":"app","Driver":"weave","Scope":"local","Created":"2026-08-01T12:00:00Z",
			"EnableIPv6":true,"Options":{"works.weave.mtu":"1400"},
			"IPAM":{"Driver":"weave","Options":{"works.weave.network":"app"},"Config":[
				{"Subnet":"10.32.0.5/22","IPRange":"10.32.1.5/24","Gateway":"::ffff:10.32.0.1",
					"AuxiliaryAddresses":{"printer":"10.32.0.9","none":""}},
				{"Subnet":""},
				{"Subnet":"fd00:1::/64","Gateway":"fd00:1::1/64"}]},
			"Containers":{
				"c1":{"Name":"web","EndpointID":"e1","MacAddress":"02:00:00:00:00:AB",
					"IPv4Address":"10.32.0.2/22","IPv6Address":"fd00:1::2/64"},
				"c2":{"Name":"gone","EndpointID":"e2","MacAddress":"02:00:00:00:00:02",
					"IPv4Address":"10.32.0.3/22","IPv6Address":""},
				"ep-e3":{"Name":"made","EndpointID":"e3","MacAddress":"","IPv4Address":"10.32.0.4/22"}}}`,
		"n2": `{"Id":"n2","Name":"svc","Driver":"registry.example/weave:1","Scope":"swarm","Internal":true,
			"EnableIPv4":false,"IPAM":{"Driver":"default","Config":[{"Subnet":"fd00:2::/64","Gateway":"<nil>"}]},
			"Containers":{"c1":{"Name":"web","EndpointID":"e4","MacAddress":"02:00:00:00:00:04",
				"IPv6Address":"fd00:2::2/64"}}}`,
		"n3": `{"Id":"n3","Name":"lan","Driver":"macvlan","IPAM":{"Driver":"weave"}}`,
		"n4": `{"Id":"n4","Name":"bridge","Driver":"bridge",
			"IPAM":{"Driver":"default","Config":[{"Subnet":"what's this?"},{"Subnet":"172.17.0.1/16"}]}}`,
		"n5": `{"Id":"n5","Name":"cfg","Driver":"null","ConfigOnly":true,"IPAM":{"Driver":"weave"}}`,
	}
	var list []string
	for id, n := range networks {
		list = append(list, n)
		d.set("/networks/"+id, n)
	}
	list = append(list, `{"Id":"n6","Name":"removed meanwhile","Driver":"weave"}`)
	d.set("/networks", "["+strings.Join(list, ",")+"]")
	d.set("/containers/c1/json", `{"Id":"c1","NetworkSettings":{"SandboxKey":"/var/run/docker/netns/0123456789ab",
		"Networks":{"app":{"EndpointID":"e1","DriverOpts":{"works.weave.router":"true"}},
			"svc":{"EndpointID":"e4","DriverOpts":null}}}}`)
	d.set("/plugins", `[{"Id":"p0","Name":"other:latest"},{"Id":"p1","Name":"lan:latest"}]`)
	return d
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func TestKnown(t *testing.T) {
	d := dockerWithNetworks(t)
	d.start()
	w, _ := newWatcher(d)
	got, err := w.Known(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Known{
		Drivers: []string{"weave", "registry.example/weave:1"},
		Others:  map[driver.NetworkID][]netip.Prefix{"n4": prefixes("172.17.0.0/16"), "n5": {}},
		Networks: []Network{
			{
				ID: "n1", Name: "app", Driver: "weave", IPAMDriver: "weave", Scope: "local",
				Options: map[string]string{"works.weave.mtu": "1400"}, Cluster: "app", IPv4: true, IPv6: true,
				Created: time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC),
				Subnets: []Subnet{
					{
						netip.MustParsePrefix("10.32.0.0/22"), netip.MustParsePrefix("10.32.1.0/24"),
						netip.MustParseAddr("10.32.0.1"),
						map[string]netip.Addr{"printer": netip.MustParseAddr("10.32.0.9")},
					},
					{Subnet: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1")},
				},
			},
			{
				ID: "n2", Name: "svc", Driver: "registry.example/weave:1", IPAMDriver: "default", Scope: "swarm",
				Internal: true, Subnets: []Subnet{{Subnet: netip.MustParsePrefix("fd00:2::/64")}},
			},
			{ID: "n3", Name: "lan", Driver: "macvlan", IPAMDriver: "weave", IPv4: true},
		},
		Endpoints: []Endpoint{
			{
				ID: "e1", Network: "n1", Container: "c1", ContainerName: "web", MAC: mac.MustParse("02:00:00:00:00:ab"),
				Addresses: prefixes("10.32.0.2/22", "fd00:1::2/64"), Sandbox: "/var/run/docker/netns/0123456789ab",
				Options: map[string]string{"works.weave.router": "true"},
			},
			{
				ID: "e2", Network: "n1", Container: "c2", ContainerName: "gone",
				MAC:       mac.MustParse("02:00:00:00:00:02"),
				Addresses: prefixes("10.32.0.3/22"),
			},
			{ID: "e3", Network: "n1", Addresses: prefixes("10.32.0.4/22")},
			{
				ID: "e4", Network: "n2", Container: "c1", ContainerName: "web", MAC: mac.MustParse("02:00:00:00:00:04"),
				Addresses: prefixes("fd00:2::2/64"), Sandbox: "/var/run/docker/netns/0123456789ab",
			},
		},
	}
	if diff := cmp.Diff(want, got, equalAddresses); diff != "" {
		t.Errorf("known (-want +got):\n%s", diff)
	}
	if n := d.count("/containers/c1/json"); n != 1 {
		t.Errorf("a container with two endpoints was inspected %d times, want once", n)
	}
}

// TestContainersWayOut: the gateway that a container has is that of the network with the highest priority, then of one
// with gateways of both families, then the first by name.
func TestContainersWayOut(t *testing.T) {
	for _, tt := range []struct{ networks, want string }{
		{`{}`, ""},
		{`{"a":{}, "b":{"IPv6Gateway":"fd00::1"}}`, "b"},
		{`{"c":{"Gateway":"10.3.0.1"}, "b":{"Gateway":"10.2.0.1"}, "a":{}}`, "b"},
		{`{"a":{"Gateway":"10.1.0.1"}, "b":{"Gateway":"10.2.0.1","GwPriority":1}, "c":{"GwPriority":2}}`, "b"},
		{`{"a":{"Gateway":"10.1.0.1","GwPriority":-1}, "b":{"Gateway":"10.2.0.1"}}`, "b"},
		{`{"a":{"Gateway":"10.1.0.1"}, "b":{"Gateway":"10.2.0.1","IPv6Gateway":"fd00::1"}}`, "b"},
		{`{"a":{"Gateway":"10.1.0.1","GwPriority":1}, "b":{"Gateway":"10.2.0.1","IPv6Gateway":"fd00::1"}}`, "a"},
	} {
		var c wireContainer
		if err := json.Unmarshal([]byte(`{"NetworkSettings":{"Networks":`+tt.networks+`}}`), &c); err != nil {
			t.Fatal(err)
		}
		if got := c.wayOut(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.networks, got, tt.want)
		}
	}
}

// TestKnownByThePluginsName: a managed plugin's full name is a driver name whatever --driver-names is.
func TestKnownByThePluginsName(t *testing.T) {
	d := dockerWithNetworks(t)
	d.set("/networks", `[{"Id":"n6","Driver":"lan:latest"},{"Id":"n7","Driver":"other:latest"}]`)
	d.set("/networks/n6", `{"Id":"n6","Driver":"lan:latest"}`)
	d.set("/networks/n7", `{"Id":"n7","Driver":"other:latest"}`)
	d.start()
	for _, c := range []struct {
		id       string
		drivers  []string
		networks int
	}{
		{"p1", []string{"weave", "registry.example/weave:1", "lan:latest"}, 1},
		{"p2", []string{"weave", "registry.example/weave:1"}, 0}, // removed, or not there yet
		{"", []string{"weave", "registry.example/weave:1"}, 0},
	} {
		w, _ := newWatcher(d)
		w.pluginID = c.id
		got, err := w.Known(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !cmp.Equal(got.Drivers, c.drivers) || len(got.Networks) != c.networks {
			t.Errorf("plugin %q: drivers %q and %d networks, want %q and %d",
				c.id, got.Drivers, len(got.Networks), c.drivers, c.networks)
		}
	}
}

// TestKnownIsWholeOrAnError: what could not be read must not look deleted.
func TestKnownIsWholeOrAnError(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*fakeDocker)
	}{
		{"Docker is away", (*fakeDocker).stop},
		{"the list of networks hangs", func(d *fakeDocker) { d.hang("/networks", true) }},
		{"the inspect of a network hangs", func(d *fakeDocker) { d.hang("/networks/n1", true) }},
		{"the inspect of a container hangs", func(d *fakeDocker) { d.hang("/containers/c1/json", true) }},
		{"the list of plugins is not there", func(d *fakeDocker) { d.set("/plugins", "oops") }},
		{"a network is not JSON", func(d *fakeDocker) { d.set("/networks/n2", "oops") }},
		{"a container is not JSON", func(d *fakeDocker) { d.set("/containers/c1/json", "oops") }},
		{"a subnet is none", func(d *fakeDocker) {
			d.set("/networks/n3", `{"Id":"n3","IPAM":{"Config":[{"Subnet":"x"}]}}`)
		}},
		{"a gateway is none", func(d *fakeDocker) {
			d.set("/networks/n3", `{"Id":"n3","IPAM":{"Config":[{"Gateway":"x"}]}}`)
		}},
		{"an address is none", func(d *fakeDocker) {
			d.set("/networks/n3", `{"Id":"n3","Containers":{"c":{"IPv4Address":"x"}}}`)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := dockerWithNetworks(t)
			d.start()
			tt.spoil(d)
			w, _ := newWatcher(d)
			w.pluginID = "p1"
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			if got, err := w.Known(ctx); err == nil {
				t.Errorf("no error, and %+v", got)
			} else if !cmp.Equal(got, Known{}) {
				t.Errorf("both an error and %+v", got)
			}
		})
	}
}

func TestKnownWhileDockerStarts(t *testing.T) {
	d := newFakeDocker(t)
	w, _ := newWatcher(d)
	_, err := w.Known(t.Context())
	if err == nil || errors.Is(err, errGone) || !strings.Contains(err.Error(), "docker's API") {
		t.Errorf("no socket: %v, want an error about docker's API", err)
	}
}

// FuzzNetwork: no answer of Docker's makes reading it panic, and a network that is read has only valid addresses.
func FuzzNetwork(f *testing.F) {
	f.Add("10.32.0.0/22", "10.32.0.1", "fd00::1/64", "10.32.0.2/22")
	f.Add("", "<nil>", "x", "::ffff:10.0.0.1/128")
	f.Fuzz(func(t *testing.T, subnet, gateway, aux, address string) {
		var w wireNetwork
		auxiliary := map[string]string{"a": aux}
		w.IPAM.Config = []wireSubnet{{Subnet: subnet, Gateway: gateway, AuxiliaryAddresses: auxiliary}}
		n, err := w.network()
		if err == nil && n.Subnets[0].Subnet != n.Subnets[0].Subnet.Masked() {
			t.Errorf("subnet %q read as %s, which has host bits", subnet, n.Subnets[0].Subnet)
		}
		e, err := wireEndpoint{IPv4Address: address, IPv6Address: aux}.endpoint("n", "c")
		for _, a := range e.Addresses {
			if err != nil || !a.IsValid() {
				t.Errorf("addresses %q, %q: %s", address, aux, fmt.Sprint(e, err))
			}
		}
	})
}
