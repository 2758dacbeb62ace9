package main

import (
	"encoding/json"
	"maps"
	"slices"
)

// options says what becomes of the bridge driver's options: the option of weave's that means the same or, if empty,
// nothing, since weave has no such thing. Options that are not here are passed on as they are: Docker's MTU option
// means the same to both.
var options = map[string]string{
	"com.docker.network.bridge.name":                    "works.weave.bridge",
	"com.docker.network.bridge.enable_icc":              "", // containers on one network reach each other
	"com.docker.network.bridge.enable_ip_masquerade":    "", // docker_gwbridge does it, or not
	"com.docker.network.bridge.host_binding_ipv4":       "", // of docker_gwbridge
	"com.docker.network.bridge.gateway_mode_ipv4":       "", // weave's networks have no gateway of their own
	"com.docker.network.bridge.gateway_mode_ipv6":       "",
	"com.docker.network.bridge.inhibit_ipv4":            "", // the bridge has no address anyway
	"com.docker.network.bridge.trusted_host_interfaces": "",
	"com.docker.network.bridge.default_bridge":          "",
	"com.docker.network.host_ipv4":                      "", // no source address where nothing is masqueraded
	"com.docker.network.host_ipv6":                      "",
	"com.docker.network.container_iface_prefix":         "", // Docker allows a plugin no prefix but its own
}

// translate turns the request to create a bridge network into one for a network of the driver given, and says which
// options it has dropped. Any other request, a malformed one included, stays as it is: the engine answers it best.
func translate(request []byte, driver string) (translated []byte, dropped []string) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(request, &fields) != nil || fields == nil {
		return request, nil
	}
	var asked string
	if raw, ok := fields["Driver"]; ok && json.Unmarshal(raw, &asked) != nil || asked != "" && asked != "bridge" {
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

// encode is the JSON of what can't fail to have one.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
