package driver

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/weaveplugin/weave/internal/mac"
)

const (
	netID = NetworkID("7d2a4352179e00f14c5fbe322bff4b586f4cef09e5a4bda73851b8725299a4bc")
	epID  = EndpointID("3345ac4971c9e239a8690fd27572bb369374017ee2c95f6faa11225d4a09c855")
)

var comparePrefixes = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

func TestParseNetworkOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		options map[string]string
		want    NetworkOptions
		err     string
	}{
		"none":                            {},
		"mtu":                             {options: map[string]string{optionMTU: "9000"}, want: NetworkOptions{MTU: 9000}},
		"Docker's mtu":                    {options: map[string]string{optionDockerMTU: "1400"}, want: NetworkOptions{MTU: 1400}},
		"both the same":                   {options: map[string]string{optionMTU: "1400", optionDockerMTU: "1400"}, want: NetworkOptions{MTU: 1400}},
		"both different":                  {options: map[string]string{optionMTU: "1400", optionDockerMTU: "1500"}, err: "mean the same"},
		"mtu not a number":                {options: map[string]string{optionMTU: "big"}, err: `option works.weave.mtu: "big": want 68..65535`},
		"mtu too small":                   {options: map[string]string{optionMTU: "67"}, err: "want 68..65535"},
		"mtu too large":                   {options: map[string]string{optionMTU: "65536"}, err: "want 68..65535"},
		"bridge":                          {options: map[string]string{optionBridge: "br0"}, want: NetworkOptions{Bridge: "br0"}},
		"empty bridge":                    {options: map[string]string{optionBridge: ""}, err: "want 1 to 15 bytes"},
		"bridge too long":                 {options: map[string]string{optionBridge: "sixteen-bytes-xx"}, err: "want 1 to 15 bytes"},
		"bridge as an option of iptables": {options: map[string]string{optionBridge: "-j"}, err: "not a name"},
		"bridge as a wildcard":            {options: map[string]string{optionBridge: "br+"}, err: "want letters, digits"},
		"bridge of weave's prefix":        {options: map[string]string{optionBridge: "wv-1"}, err: "weave's own"},
		"Docker's bridge":                 {options: map[string]string{optionBridge: "docker_gwbridge"}, err: "Docker's own"},
		"bridge of a network of Docker's": {options: map[string]string{optionBridge: "br-0123456789ab"}, err: "Docker's own"},
		"multicast":                       {options: map[string]string{optionMulticast: "true"}, want: NetworkOptions{Multicast: true}},
		"multicast off":                   {options: map[string]string{optionMulticast: "false"}},
		"multicast maybe": {
			options: map[string]string{optionMulticast: "yes"}, err: `option works.weave.multicast: "yes": want true or false`,
		},
		"unknown option": {
			options: map[string]string{"works.weave.mut": "1400"},
			err:     `unknown option works.weave.mut="1400": weave takes works.weave.bridge, works.weave.mtu, works.weave.multicast`,
		},
		"unknown option of Docker's": {options: map[string]string{"com.docker.network.new": "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseNetworkOptions(tt.options)
			checkRefusal(t, err, tt.err)
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// checkRefusal checks that err is ErrInvalid with this text, or nil if there is no text.
func checkRefusal(t *testing.T, err error, text string) {
	t.Helper()
	switch {
	case text == "" && err != nil:
		t.Errorf("error %v, want none", err)
	case text != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), text)):
		t.Errorf("error %v, want ErrInvalid with %q", err, text)
	}
}

func TestCheckNetworkSpec(t *testing.T) {
	v4 := Pool{Subnet: netip.MustParsePrefix("10.0.0.0/24")}
	v6 := Pool{Subnet: netip.MustParsePrefix("fd00::/64")}
	for name, tt := range map[string]struct {
		change func(*NetworkSpec)
		err    string
	}{
		"as it should be":        {change: func(s *NetworkSpec) { s.Pools = []Pool{v4, v6} }},
		"no pools":               {change: func(*NetworkSpec) {}},
		"id too short":           {change: func(s *NetworkSpec) { s.ID = "short" }, err: "network id"},
		"bridge":                 {change: func(s *NetworkSpec) { s.Bridge = "br+" }, err: "option works.weave.bridge"},
		"mtu":                    {change: func(s *NetworkSpec) { s.MTU = 67 }, err: "want 68..65535"},
		"mtu too small for IPv6": {change: func(s *NetworkSpec) { s.MTU, s.Pools = 1279, []Pool{v6} }, err: "at least 1280"},
		"pool of mapped IPv4":    {change: func(s *NetworkSpec) { s.Pools = []Pool{{Subnet: netip.MustParsePrefix("::ffff:10.1.0.0/112")}} }, err: "want a subnet"},
		"pool with host bits":    {change: func(s *NetworkSpec) { s.Pools = []Pool{{Subnet: netip.MustParsePrefix("10.0.0.1/24")}} }, err: "want a subnet"},
		"zero pool":              {change: func(s *NetworkSpec) { s.Pools = []Pool{{}} }, err: "want a subnet"},
		"gateway outside": {change: func(s *NetworkSpec) {
			v4.Gateway = netip.MustParseAddr("10.0.1.1")
			s.Pools = []Pool{v4}
			v4.Gateway = netip.Addr{}
		}, err: "want an address of 10.0.0.0/24"},
		"reserved address outside": {change: func(s *NetworkSpec) {
			s.Pools = []Pool{{Subnet: v4.Subnet, Reserved: []netip.Addr{netip.MustParseAddr("10.0.1.1")}}}
		}, err: "auxiliary address 10.0.1.1"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := NetworkSpec{Definition: Definition{ID: netID, MTU: 1500}}
			tt.change(&spec)
			checkRefusal(t, spec.check(), tt.err)
		})
	}
}

func TestCheckEndpointSpec(t *testing.T) {
	good := netip.MustParsePrefix("10.32.0.5/22")
	for name, tt := range map[string]struct {
		spec EndpointSpec
		err  string
	}{
		"nothing but ids":  {spec: EndpointSpec{ID: epID, Network: netID}},
		"everything":       {spec: EndpointSpec{ID: epID, Network: netID, MAC: mac.MustParse("02:42:0a:20:00:05"), Addresses: []netip.Prefix{good}}},
		"endpoint id":      {spec: EndpointSpec{ID: "../etc", Network: netID}, err: "endpoint id"},
		"network id":       {spec: EndpointSpec{ID: epID, Network: "short"}, err: "network id"},
		"multicast MAC":    {spec: EndpointSpec{ID: epID, Network: netID, MAC: mac.MustParse("03:00:00:00:00:01")}, err: "first byte is even"},
		"no address":       {spec: EndpointSpec{ID: epID, Network: netID, Addresses: []netip.Prefix{{}}}, err: "want one such as"},
		"mapped addresses": {spec: EndpointSpec{ID: epID, Network: netID, Addresses: []netip.Prefix{netip.MustParsePrefix("::ffff:10.1.0.0/112")}}, err: "want one such as"},
	} {
		t.Run(name, func(t *testing.T) { checkRefusal(t, tt.spec.check(), tt.err) })
	}
}

func TestNames(t *testing.T) {
	swarm := NetworkID("x7k2m9q4w1e8r5t3y6u0i2o4p")
	for got, want := range map[string]string{
		bridgeName(netID):             "wv-7d2a4352179e",
		bridgeName(swarm):             "wv-x7k2m9q4w1e8",
		hostEndName(epID):             "wve-3345ac4971c",
		containerEndName(epID):        "wvc-3345ac4971c",
		bridgeName("123456789012"):    "wv-123456789012",
		hostEndName("12345678901234"): "wve-12345678901",
	} {
		if got != want || len(got) > maxName {
			t.Errorf("name %q, want %q", got, want)
		}
	}
	for _, id := range []string{"", "short", "7d2a4352179e/../etc", "7d2a4352179e ", strings.Repeat("a", 65)} {
		if err := NetworkID(id).Check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("id %q: error %v, want ErrInvalid", id, err)
		}
	}
}

func TestAlias(t *testing.T) {
	for text, want := range map[string]alias{
		"weave:0011:network:abc":    networkAlias("0011", "abc"),
		"weave:0011:endpoint:abcde": endpointAlias("0011", "abcde"),
	} {
		got, ok := parseAlias(text)
		if !ok || got != want || got.String() != text {
			t.Errorf("%q is parsed as %+v, %t, want %+v", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "weave", "weave:0011", "weave:0011:network", "docker:0011:network:abc", "uplink"} {
		if a, ok := parseAlias(text); ok {
			t.Errorf("%q is parsed as %+v, want no alias of weave's", text, a)
		}
	}
	if !networkAlias("a", "1").sameSubject(networkAlias("b", "1")) || networkAlias("a", "1").sameSubject(endpointAlias("a", "1")) {
		t.Error("an alias is for the same subject when kind and id are the same, whatever the state")
	}
}

// TestMACIsRandomAndUnicast checks the two bits that make a MAC locally administered and unicast.
func TestMACIsRandomAndUnicast(t *testing.T) {
	seen := map[mac.Address]bool{}
	for range 1000 {
		a := newMAC(nil)
		if a[0]&3 != 2 {
			t.Fatalf("MAC %s, want it locally administered and unicast", a)
		}
		if seen[a] {
			t.Fatalf("MAC %s twice in a thousand", a)
		}
		seen[a] = true
	}
}

// TestRecordsOfEarlierVersions: the records of version 0.1 are read, and written as it wrote them.
func TestRecordsOfEarlierVersions(t *testing.T) {
	const network = `{"id":"7d2a4352179e","bridge":"br-lan","foreign":true,"mtu":1400,"internal":true,"multicast":true,"announced":true,` +
		`"pools":[{"subnet":"10.0.0.0/8","gateway":"10.0.0.1","reserved":["10.0.0.9"],"space":"weavelocal"}],` +
		`"created":"2026-01-02T03:04:05Z","phase":"made"}`
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := Network{
		Definition: Definition{ID: "7d2a4352179e", MTU: 1400, Internal: true, Multicast: true, Pools: []Pool{{
			Subnet: netip.MustParsePrefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("10.0.0.1"),
			Reserved: []netip.Addr{netip.MustParseAddr("10.0.0.9")}, Space: "weavelocal",
		}}},
		Local: Local{Bridge: "br-lan", Foreign: true, Announced: true, Created: created, Phase: Made},
	}
	checkRecord(t, network, want)
	const endpoint = `{"id":"3f2a4352179e","network":"7d2a4352179e","hostEnd":"wve-3f2a4352179","mac":"02:42:0a:00:00:02",` +
		`"addresses":["10.0.0.2/8"],"sandbox":"/run/docker/netns/1","created":"2026-01-02T03:04:05Z","phase":"going"}`
	checkRecord(t, endpoint, endpointRecord{Phase: Going, Endpoint: Endpoint{
		ID: "3f2a4352179e", Network: "7d2a4352179e", HostEnd: "wve-3f2a4352179", MAC: mac.MustParse("02:42:0a:00:00:02"),
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/8")}, Sandbox: "/run/docker/netns/1", Created: created,
	}})
}

// checkRecord checks that record is read as want, and that want is written with the same members.
func checkRecord[T any](t *testing.T, record string, want T) {
	t.Helper()
	var got T
	if err := json.Unmarshal([]byte(record), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, comparePrefixes); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
	written, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var before, after map[string]any
	if err := errors.Join(json.Unmarshal([]byte(record), &before), json.Unmarshal(written, &after)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("written (-before +after):\n%s", diff)
	}
}
