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
