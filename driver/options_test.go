// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/weaveplugin/weave/internal/nstest"
)

// booleans are the values that every boolean of weave's takes, and what they mean: those of Weave Net.
var booleans = map[string]bool{
	"": true, "1": true, "t": true, "T": true, "TRUE": true, "true": true, "True": true,
	"0": false, "f": false, "F": false, "FALSE": false, "false": false, "False": false,
}

// set returns options from pairs of a name and a value.
func set(pairs ...string) map[string]string {
	options := map[string]string{}
	for pair := range slices.Chunk(pairs, 2) {
		options[pair[0]] = pair[1]
	}
	return options
}

func TestParseNetworkOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		options map[string]string
		want    NetworkOptions
		err     string
	}{
		"none":         {},
		"mtu":          {options: set(optionMTU, "9000"), want: NetworkOptions{MTU: 9000}},
		"Docker's mtu": {options: set(optionDockerMTU, "1400"), want: NetworkOptions{MTU: 1400}},
		"mtu not a number": {
			options: set(optionMTU, "big"), err: `option works.weave.mtu: "big": want 68..65535`,
		},
		"mtu too small":                   {options: set(optionMTU, "67"), err: "want 68..65535"},
		"mtu too large":                   {options: set(optionMTU, "65536"), err: "want 68..65535"},
		"bridge":                          {options: set(optionBridge, "br0"), want: NetworkOptions{Bridge: "br0"}},
		"empty bridge":                    {options: set(optionBridge, ""), err: "want 1 to 15 bytes"},
		"bridge too long":                 {options: set(optionBridge, "sixteen-bytes-xx"), err: "want 1 to 15 bytes"},
		"bridge as an option of iptables": {options: set(optionBridge, "-j"), err: "not a name"},
		"bridge as a wildcard":            {options: set(optionBridge, "br+"), err: "want letters, digits"},
		"bridge of weave's prefix":        {options: set(optionBridge, "wv-1"), err: "weave's own"},
		"Docker's bridge":                 {options: set(optionBridge, "docker_gwbridge"), err: "Docker's own"},
		"bridge of a network of Docker's": {options: set(optionBridge, "br-0123456789ab"), err: "Docker's own"},
		"both the same": {
			options: set(optionMTU, "1400", optionDockerMTU, "1400"), want: NetworkOptions{MTU: 1400},
		},
		"NAT and masquerade": {
			options: set(optionNAT, "ipv4", optionMasquerade, "false"), want: NetworkOptions{NAT: NATIPv4},
		},
		"NAT or masquerade": {options: set(optionNAT, "yes", optionMasquerade, "false"), err: "about the same"},
		"both different":    {options: set(optionMTU, "1400", optionDockerMTU, "1500"), err: "mean the same"},
		"multicast":         {options: set(optionMulticast, "true"), want: NetworkOptions{Multicast: true}},
		"multicast off":     {options: set(optionMulticast, "false")},
		"firewall":          {options: set(optionFirewall, "host"), want: NetworkOptions{Firewall: FirewallHost}},
		"firewall maybe": {
			options: set(optionFirewall, "off"), err: `option works.weave.firewall: "off": want none or host`,
		},
		"multicast maybe": {
			options: set(optionMulticast, "maybe"), err: `option works.weave.multicast: "maybe": want yes or no`,
		},
		"unknown option": {
			options: set("works.weave.mut", "1400"),
			err: `unknown option works.weave.mut="1400": ` +
				`weave takes works.weave.bridge, works.weave.firewall, works.weave.gateway, works.weave.guard, ` +
				`works.weave.host, works.weave.mtu, works.weave.multicast, works.weave.nat`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, refused := ParseNetworkOptions(tt.options)
			checkRefusal(t, refused.Err(), tt.err)
			checkRefusal(t, refused.Unread(), unless(name == "unknown option", tt.err))
			if tt.err == "" && got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// unless returns text, or nothing if the condition is true.
func unless(condition bool, text string) string {
	if condition {
		return ""
	}
	return text
}

// TestBooleans: all booleans take the same values.
func TestBooleans(t *testing.T) {
	guards := map[bool]Guard{true: GuardOn, false: GuardOff}
	for value, want := range booleans {
		got, refused := ParseNetworkOptions(set(optionMulticast, value, optionGuard, value))
		if wanted := (NetworkOptions{Multicast: want, Guard: guards[want]}); got != wanted || refused.Err() != nil {
			t.Errorf("%q: %+v, %v, want %+v", value, got, refused.Err(), wanted)
		}
		ep, refused := ParseEndpointOptions(set(optionRouter, value))
		if ep.Router != want || refused.Err() != nil {
			t.Errorf("router %q: %v, %v", value, ep.Router, refused.Err())
		}
		_, refused = ParseNetworkOptions(set("com.docker.network.bridge.enable_icc", value))
		if (refused.Err() == nil) != want {
			t.Errorf("enable_icc=%q: %v", value, refused.Err())
		}
	}
	for _, value := range []string{"Yes", "on", "tRUE", "2", " true"} {
		for _, name := range []string{optionMulticast, optionGuard, "com.docker.network.bridge.enable_icc"} {
			_, refused := ParseNetworkOptions(set(name, value))
			checkRefusal(t, refused.Err(), "want yes or no")
		}
		_, refused := ParseEndpointOptions(set(optionRouter, value))
		checkRefusal(t, refused.Err(), "option works.weave.router: \""+value+"\": want yes or no")
	}
}

// TestDockersNetworkOptions: each of Docker's options is honoured, passes because it is nothing to weave or means what
// weave does anyway, or is refused with what to do instead.
func TestDockersNetworkOptions(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		err         string // and the network is adopted all the same
		want        NetworkOptions
	}{
		{name: "container_iface_prefix", value: "net", want: NetworkOptions{InterfacePrefix: "net"}},
		{name: "container_iface_prefix", value: "thirteenbytes", err: "want 1 to 12 bytes"},
		{name: "container_iface_prefix", value: "", err: "want 1 to 12 bytes"},
		{name: "container_iface_prefix", value: "a/b", err: "want letters"},
		{name: "container_iface_prefix", value: ".", err: "the first one not"},
		{name: "advertise_addr_nmsgs", value: "0"},
		{name: "advertise_addr_ms", value: "100"},
		{name: "enable_ipv4", value: "false"},
		{name: "enable_ipv6", value: "true"},
		{name: "internal", value: "false"},
		{name: "internal", value: "true", err: "--internal"},
		{name: "host_ipv4", value: "192.0.2.1", err: "the interface that it leaves by"},
		{name: "host_ipv6", value: "2001:db8::1", err: "the interface that it leaves by"},
		{name: "bridge.name", value: "br0", err: "works.weave.bridge"},
		{name: "bridge.default_bridge", value: "false"},
		{name: "bridge.default_bridge", value: "true", err: "Docker's own network"},
		{name: "bridge.enable_icc", value: "true"},
		{name: "bridge.enable_icc", value: "false", err: "networks of their own"},
		{name: "bridge.enable_ip_masquerade", value: "true"},
		{name: "bridge.enable_ip_masquerade", value: "false", want: NetworkOptions{NAT: NATNone}},
		{name: "bridge.enable_ip_masquerade", value: "maybe", err: "want yes or no"},
		{name: "bridge.gateway_mode_ipv4", value: "nat"},
		{name: "bridge.gateway_mode_ipv4", value: "isolated", err: "--internal"},
		{name: "bridge.gateway_mode_ipv4", value: "routed", err: "works.weave.nat=no"},
		{name: "bridge.gateway_mode_ipv6", value: "nat"},
		{name: "bridge.gateway_mode_ipv6", value: "routed", err: "works.weave.nat=no"},
		{name: "bridge.host_binding_ipv4", value: "0.0.0.0"},
		{name: "bridge.host_binding_ipv4", value: "127.0.0.1", err: "-p 127.0.0.1:80:80"},
		{name: "bridge.inhibit_ipv4", value: "false"},
		{name: "bridge.inhibit_ipv4", value: "true", err: "works.weave.gateway=docker"},
		{name: "bridge.trusted_host_interfaces", value: ""},
		{name: "bridge.trusted_host_interfaces", value: "eth0", err: "docker run -p"},
		{name: "bridge.enable_ic", value: "false", err: "unknown option com.docker.network.bridge.enable_ic"},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			name := "com.docker.network." + tt.name
			got, refused := ParseNetworkOptions(set(name, tt.value))
			checkRefusal(t, refused.Err(), tt.err)
			if tt.err != "" {
				checkRefusal(t, refused.Err(), name)
				checkRefusal(t, refused.Err(), `"`+tt.value+`"`)
			}
			if refused.Unread() != nil || len(refused.Unknown) > 0 || got != tt.want {
				t.Errorf("got %+v, want %+v; unread %v, unknown %q", got, tt.want, refused.Unread(), refused.Unknown)
			}
		})
	}
}

func TestUnknownOptionsOfDockersPass(t *testing.T) {
	_, refused := ParseNetworkOptions(set("com.docker.network.new", "1", "com.docker.network.internl", "true"))
	want := []string{"com.docker.network.internl", "com.docker.network.new"}
	if refused.Err() != nil || !slices.Equal(refused.Unknown, want) {
		t.Errorf("error %v, unknown %q, want none and %q", refused.Err(), refused.Unknown, want)
	}
}

func TestParseEndpointOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		options map[string]string
		want    EndpointOptions
		unknown []string
		err     string
	}{
		"none":           {},
		"router":         {options: set(optionRouter, "true"), want: EndpointOptions{Router: true}},
		"sysctls":        {options: set("com.docker.network.endpoint.sysctls", "net.ipv4.conf.IFNAME.log_martians=1")},
		"name":           {options: set("com.docker.network.endpoint.name", "web")},
		"ifname":         {options: set("com.docker.network.endpoint.ifname", "lan"), err: "container_iface_prefix"},
		"new of Docker":  {options: set("com.docker.network.n", "1"), unknown: []string{"com.docker.network.n"}},
		"bridge's":       {options: set("com.docker.network.bridge.x", "1"), err: "unknown option com.docker"},
		"unknown":        {options: set("colour", "red"), err: `colour="red": weave takes works.weave.router`},
		"of the network": {options: set(optionMTU, "1400"), err: "unknown option works.weave.mtu"},
	} {
		t.Run(name, func(t *testing.T) {
			got, refused := ParseEndpointOptions(tt.options)
			checkRefusal(t, refused.Err(), tt.err)
			if got != tt.want || !slices.Equal(refused.Unknown, tt.unknown) {
				t.Errorf("got %+v, unknown %q, want %+v, %q", got, refused.Unknown, tt.want, tt.unknown)
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

// TestRefusedNetwork: a network with an option that is refused is not made, but one that an earlier version accepted
// with that option stays when Swarm repeats the request.
func TestRefusedNetwork(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	plain := newNetwork(netID)
	refused := plain
	refused.Refused = invalidOption("name", "value", "do that instead")
	checkRefusal(t, r.CreateNetwork(t.Context(), refused), "do that instead")
	if networks := r.tracked.Networks(); len(networks) > 0 {
		t.Errorf("a refused network left %+v", networks)
	}
	r.createNetwork(plain)
	r.createNetwork(refused)
}

// TestInterfacePrefix: Docker is told the network's prefix for the interface in the container. A network of an earlier
// version, which dropped the option, keeps eth when Swarm repeats the request.
func TestInterfacePrefix(t *testing.T) {
	if nstest.Reexec(t) {
		return
	}
	r := newRig(t)
	for prefix, want := range map[string]string{"": "eth", "net": "net"} {
		spec := newNetwork(netID)
		spec.InterfacePrefix = prefix
		r.createNetwork(spec)
		id, _ := r.createEndpoint(netID, 1)
		got, err := r.Join(t.Context(), netID, id, "/var/run/docker/netns/0123456789ab", NoPorts)
		if err != nil || got.Prefix != want {
			t.Errorf("prefix %q: %+v, %v, want %s", prefix, got, err, want)
		}
		spec.InterfacePrefix = "lan"
		r.createNetwork(spec)
		if nw, _ := r.tracked.network(netID); nw.InterfacePrefix != prefix {
			t.Errorf("a repeated request made the prefix %q, want %q", nw.InterfacePrefix, prefix)
		}
		err = errors.Join(r.DeleteEndpoint(t.Context(), netID, id), r.DeleteNetwork(t.Context(), netID))
		if err != nil {
			t.Fatal(err)
		}
	}
}
