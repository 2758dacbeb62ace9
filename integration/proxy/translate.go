// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"maps"
	"slices"
)

// options maps the bridge driver's options to those of weave with the same meaning, or to "" if weave has none; such
// options are dropped. Other options are kept, such as those for the MTU and for the names
// of interfaces, which both drivers know.
var options = map[string]string{
	"com.docker.network.bridge.name":                    "works.weave.bridge",
	"com.docker.network.bridge.enable_icc":              "", // containers on one network reach each other
	"com.docker.network.bridge.enable_ip_masquerade":    "", // a matter of docker_gwbridge
	"com.docker.network.bridge.host_binding_ipv4":       "", // a matter of docker_gwbridge
	"com.docker.network.bridge.gateway_mode_ipv4":       "", // weave's networks have no gateway of their own
	"com.docker.network.bridge.gateway_mode_ipv6":       "",
	"com.docker.network.bridge.inhibit_ipv4":            "", // the bridge has no address anyway
	"com.docker.network.bridge.trusted_host_interfaces": "",
	"com.docker.network.bridge.default_bridge":          "",
	"com.docker.network.host_ipv4":                      "", // weave does not masquerade
	"com.docker.network.host_ipv6":                      "",
}

// translate turns a request to create a bridge network into one for a network of another driver, and returns the
// options that it has dropped. It returns every other request unchanged, also a malformed one, for Docker to reply
// to.
func translate(request []byte, driver string) (translated []byte, dropped []string) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(request, &fields) != nil || fields == nil {
		return request, nil
	}
	var requested string
	if raw, ok := fields["Driver"]; ok && json.Unmarshal(raw, &requested) != nil ||
		requested != "" && requested != "bridge" {
		return request, nil
	}
	var given map[string]string
	if raw, ok := fields["Options"]; ok && json.Unmarshal(raw, &given) != nil {
		return request, nil
	}
	kept := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		switch becomes, known := options[key]; {
		case !known:
			kept[key] = given[key]
		case becomes != "":
			kept[becomes] = given[key]
		default:
			dropped = append(dropped, key)
		}
	}
	fields["Driver"], fields["Options"] = encode(driver), encode(kept)
	return encode(fields), dropped
}

// encode returns the JSON of a value that can be encoded.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
