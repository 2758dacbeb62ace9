package api

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/weaveplugin/weave/driver"
)

// Query chooses endpoints. An endpoint is listed if it is on any of Networks and in any of Containers; an empty list
// excludes nothing.
type Query struct {
	Networks   []string      // each an id, a name or the beginning of an id; one that weave doesn't know is an error
	Containers []string      // likewise, but one that weave doesn't know only matches nothing
	Live       driver.Source // ask what is really there, and whom; empty: only what weave tracks
}

// The names of a Query's parameters in a URL.
const (
	paramNetwork   = "network"
	paramContainer = "container"
	paramLive      = "live"
)

const (
	maxFilters  = 1000 // of each kind
	maxNameSize = 256  // bytes; Docker's ids have 64
)

// values returns q as the parameters of a URL.
func (q Query) values() url.Values {
	v := url.Values{}
	for _, n := range q.Networks {
		v.Add(paramNetwork, n)
	}
	for _, c := range q.Containers {
		v.Add(paramContainer, c)
	}
	if q.Live != "" {
		v.Set(paramLive, string(q.Live))
	}
	return v
}

// parseQuery reads the parameters of a listing. Its errors name the parameter, the value and what is accepted.
func parseQuery(raw string) (Query, error) {
	values, err := parseParameters(raw, paramNetwork, paramContainer, paramLive)
	if err != nil {
		return Query{}, err
	}
	q := Query{Networks: values[paramNetwork], Containers: values[paramContainer]}
	for _, name := range []string{paramNetwork, paramContainer} {
		if err := checkNames(name, values[name]); err != nil {
			return Query{}, err
		}
	}
	if live, ok := values[paramLive]; ok {
		if q.Live, err = parseLive(live); err != nil {
			return Query{}, err
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

func checkNames(parameter string, names []string) error {
	if len(names) > maxFilters {
		return fmt.Errorf("parameter %s: given %d times; want at most %d", parameter, len(names), maxFilters)
	}
	for _, n := range names {
		if n == "" || len(n) > maxNameSize {
			return fmt.Errorf("parameter %s: %.20q: want an id, the beginning of one or a name, 1 to %d bytes", parameter, n, maxNameSize)
		}
	}
	return nil
}

func parseLive(values []string) (driver.Source, error) {
	if len(values) == 1 {
		switch values[0] {
		case "1", string(driver.Kernel):
			return driver.Kernel, nil
		case string(driver.Nsproc):
			return driver.Nsproc, nil
		}
	}
	return "", fmt.Errorf("parameter %s: %.80q: want one of 1, %s, %s", paramLive, values, driver.Kernel, driver.Nsproc)
}
