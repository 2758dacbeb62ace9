// SPDX-License-Identifier: Apache-2.0

package driver

import "strings"

// alias marks a link that weave made (ip link set alias): it says which state it belongs to and what it is for, so that
// weave recognises its own links and leaves everybody else's alone.
type alias struct {
	State string // id of the state; other states, of other instances, have other ids
	Kind  aliasKind
	ID    string // Docker's id of the network or the endpoint
}

type aliasKind string

const (
	forNetwork  aliasKind = "network"  // a bridge
	forEndpoint aliasKind = "endpoint" // a host end
)

const aliasPrefix = "weave:"

// parseAlias is the inverse of alias.String; ok is false for a text that weave did not write.
func parseAlias(text string) (a alias, ok bool) {
	rest, ok := strings.CutPrefix(text, aliasPrefix)
	if !ok {
		return alias{}, false
	}
	state, rest, _ := strings.Cut(rest, ":")
	kind, id, ok := strings.Cut(rest, ":")
	return alias{State: state, Kind: aliasKind(kind), ID: id}, ok
}

// String returns the text that the kernel keeps.
func (a alias) String() string {
	return aliasPrefix + a.State + ":" + string(a.Kind) + ":" + a.ID
}

// sameSubject reports whether both aliases are for the same network or endpoint, whatever their states. Docker's ids
// are unique, so it does not matter which state made a link for an id.
func (a alias) sameSubject(b alias) bool { return a.Kind == b.Kind && a.ID == b.ID }

func networkAlias(stateID string, id NetworkID) alias {
	return alias{State: stateID, Kind: forNetwork, ID: string(id)}
}

func endpointAlias(stateID string, id EndpointID) alias {
	return alias{State: stateID, Kind: forEndpoint, ID: string(id)}
}
