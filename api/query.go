// SPDX-License-Identifier: Apache-2.0

package api

import "net/url"

// The names of a Query's parameters in a URL.
const (
	ParamNetwork   = "network"
	ParamContainer = "container"
	ParamLive      = "live"
	ParamLocal     = "local"
)

// Query selects endpoints: those that are on any of Networks and in any of Containers. An empty list excludes nothing.
type Query struct {
	Networks   []string // each an id, a name or the beginning of an id; one that weave doesn't know is an error
	Containers []string // likewise, but one that weave doesn't know only matches nothing
	Live       Source   // who shall look at what is really there; empty: only what weave tracks is listed
	Local      bool     // none on other hosts; a live listing has none in any case, since nobody can look there
}

// Values returns q as the parameters of a URL.
func (q Query) Values() url.Values {
	v := url.Values{}
	for _, n := range q.Networks {
		v.Add(ParamNetwork, n)
	}
	for _, c := range q.Containers {
		v.Add(ParamContainer, c)
	}
	if q.Live != "" {
		v.Set(ParamLive, string(q.Live))
	}
	if q.Local {
		v.Set(ParamLocal, "1")
	}
	return v
}
