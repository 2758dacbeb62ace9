// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/api"
)

const (
	maxFilters  = 1000 // of each kind
	maxNameSize = 256  // bytes; Docker's ids have 64
)

// parseQuery parses the parameters of a listing of endpoints. Its errors name the parameter, the value and what is
// accepted.
func parseQuery(raw string) (api.Query, error) {
	values, err := parseParameters(raw, api.ParamNetwork, api.ParamContainer, api.ParamLive, api.ParamLocal)
	if err != nil {
		return api.Query{}, err
	}
	for _, name := range []string{api.ParamNetwork, api.ParamContainer} {
		if err := checkFilters(name, values[name]); err != nil {
			return api.Query{}, err
		}
	}
	q := api.Query{Networks: values[api.ParamNetwork], Containers: values[api.ParamContainer]}
	if live, ok := values[api.ParamLive]; ok {
		if q.Live, err = parseLive(live); err != nil {
			return api.Query{}, err
		}
	}
	if local, ok := values[api.ParamLocal]; ok {
		if q.Local = len(local) == 1 && local[0] == "1"; !q.Local {
			return api.Query{}, fmt.Errorf("parameter %s: %.80q: want 1", api.ParamLocal, local)
		}
	}
	return q, nil
}

// parseParameters splits a URL's query and refuses every parameter that is not one of accepted.
func parseParameters(raw string, accepted ...string) (url.Values, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, fmt.Errorf("parameters %q: %w", raw, err)
	}
	for name, v := range values {
		if slices.Contains(accepted, name) {
			continue
		}
		want := "no parameter"
		if len(accepted) > 0 {
			want = strings.Join(accepted, ", ")
		}
		return nil, fmt.Errorf("parameter %q: %q: unknown; want %s", name, v[0], want)
	}
	return values, nil
}

func checkFilters(parameter string, filters []string) error {
	if len(filters) > maxFilters {
		return fmt.Errorf("parameter %s: given %d times; want at most %d", parameter, len(filters), maxFilters)
	}
	for _, f := range filters {
		if f == "" || len(f) > maxNameSize {
			return fmt.Errorf("parameter %s: %.20q: want an id, the beginning of one or a name, 1 to %d bytes",
				parameter, f, maxNameSize)
		}
	}
	return nil
}

func parseLive(values []string) (api.Source, error) {
	if len(values) == 1 {
		switch values[0] {
		case "1", string(api.Kernel):
			return api.Kernel, nil
		case string(api.Nsproc):
			return api.Nsproc, nil
		}
	}
	return "", fmt.Errorf("parameter %s: %.80q: want one of 1, %s, %s", api.ParamLive, values, api.Kernel, api.Nsproc)
}
