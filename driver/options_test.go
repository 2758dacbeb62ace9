// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

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
		"both different": {options: set(optionMTU, "1400", optionDockerMTU, "1500"), err: "mean the same"},
		"multicast":      {options: set(optionMulticast, "true"), want: NetworkOptions{Multicast: true}},
		"multicast off":  {options: set(optionMulticast, "false")},
		"multicast maybe": {
			options: set(optionMulticast, "yes"), err: `option works.weave.multicast: "yes": want true or false`,
		},
		"unknown option": {
			options: set("works.weave.mut", "1400"),
			err: `unknown option works.weave.mut="1400": ` +
				`weave takes works.weave.bridge, works.weave.firewall, works.weave.guard, ` +
				`works.weave.mtu, works.weave.multicast`,
		},
		"unknown option of Docker's": {options: set("com.docker.network.new", "1")},
		"firewall":                   {options: set(optionFirewall, "host"), want: NetworkOptions{Firewall: FirewallHost}},
		"firewall otherwise":         {options: set(optionFirewall, "off"), err: `"off": want none or host`},
		"guard":                      {options: set(optionGuard, "true"), want: NetworkOptions{Guard: GuardOn}},
		"guard off":                  {options: set(optionGuard, "0"), want: NetworkOptions{Guard: GuardOff}},
		"prefix": {
			options: set(optionPrefix, "lan"), want: NetworkOptions{Prefix: "lan"},
		},
		"prefix with a slash": {options: set(optionPrefix, "a/b"), err: "want at most 11 letters"},
		"prefix too long":     {options: set(optionPrefix, "twelve-bytes"), err: "want at most 11 letters"},
		"what weave does":     {options: set(bridgeOption+"enable_icc", "true", bridgeOption+"gateway_mode_ipv4", "nat")},
		"isolated containers": {options: set(bridgeOption+"enable_icc", "false"), err: "a network each"},
		"no masquerade":       {options: set(bridgeOption+"enable_ip_masquerade", "false"), err: "--internal"},
		"ports on one address": {
			options: set(bridgeOption+"host_binding_ipv4", "127.0.0.1"), err: "-p 127.0.0.1:8080:80",
		},
		"routed":                   {options: set(bridgeOption+"gateway_mode_ipv4", "routed"), err: "docker_gwbridge"},
		"Docker's name of bridges": {options: set(bridgeOption+"name", "br0"), err: optionBridge},
		"unknown for bridges":      {options: set(bridgeOption+"new", "1"), err: "one of Docker's bridge driver"},
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

// TestBooleans: what Weave Net took for yes and no.
func TestBooleans(t *testing.T) {
	for want, values := range map[bool][]string{
		true:  {"", "1", "t", "T", "TRUE", "true", "True"},
		false: {"0", "f", "F", "FALSE", "false", "False"},
	} {
		for _, value := range values {
			network, err := ParseNetworkOptions(set(optionMulticast, value))
			if err != nil || network.Multicast != want {
				t.Errorf("multicast %q: %v, %v", value, network.Multicast, err)
			}
			endpoint, err := ParseEndpointOptions(set(optionRouter, value))
			if err != nil || endpoint.Router != want {
				t.Errorf("router %q: %v, %v", value, endpoint.Router, err)
			}
		}
	}
}

func TestParseEndpointOptions(t *testing.T) {
	for name, tt := range map[string]struct {
		options map[string]string
		want    EndpointOptions
		err     string
	}{
		"none":             {},
		"router":           {options: set(optionRouter, "true"), want: EndpointOptions{Router: true}},
		"router maybe":     {options: set(optionRouter, "maybe"), err: "want true or false"},
		"Docker's":         {options: set(dockerPrefix+"endpoint.sysctls", "net.ipv6.conf.IFNAME.accept_ra=2")},
		"name of the link": {options: set(optionIfname, "lan0"), err: optionPrefix + "=lan"},
		"unknown":          {options: set("colour", "red"), err: `unknown option colour="red": weave takes ` + optionRouter},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseEndpointOptions(tt.options)
			checkRefusal(t, err, tt.err)
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestReadNetworkOptions: a network that an earlier version has made keeps what weave understands of its options.
func TestReadNetworkOptions(t *testing.T) {
	got, refused := ReadNetworkOptions(set(bridgeOption+"enable_icc", "false", optionMTU, "1400"))
	if got != (NetworkOptions{MTU: 1400}) || len(refused) != 1 {
		t.Errorf("got %+v and %v", got, refused)
	}
}
