// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver/check"
)

// Checker finds out why a container does not reach another one. check.Checker is one.
type Checker interface {
	Check(context.Context, check.Question) check.Result
}

// check answers with what is found on the way between two containers.
func (s *Server) check(ctx context.Context, r *http.Request) (any, error) {
	parameters, err := parseParameters(r.URL.RawQuery, api.ParamFrom, api.ParamTo, api.ParamPort)
	if err != nil {
		return nil, badRequest(err)
	}
	var port uint64
	if text, ok := parameters[api.ParamPort]; ok {
		if port, err = strconv.ParseUint(text[0], 10, 16); err != nil || port == 0 || len(text) > 1 {
			return nil, errorf(http.StatusBadRequest, "parameter %s: %.80q: want 1..65535", api.ParamPort, text)
		}
	}
	if s.options.Checker == nil {
		return nil, errorf(http.StatusNotFound, "nothing can be checked here")
	}
	from, err := s.allEndpoints(ctx, api.ParamFrom, parameters.Get(api.ParamFrom))
	if err != nil {
		return nil, err
	}
	q := check.Question{Port: uint16(port)}
	to := parameters.Get(api.ParamTo)
	if address, err := netip.ParseAddr(to); err == nil {
		q.Address = address.Unmap()
		q.From, err = s.senderTo(from, q.Address)
		if err != nil {
			return nil, err
		}
	} else if err := s.pair(ctx, &q, from, to); err != nil {
		return nil, err
	}
	result := s.options.Checker.Check(ctx, q)
	return api.Check{Question: q.String(), Failed: result.Failed, Layers: result.Layers}, nil
}

// pair has a question be about two endpoints of one network.
func (s *Server) pair(ctx context.Context, q *check.Question, from []api.Endpoint, name string) error {
	to, err := s.allEndpoints(ctx, api.ParamTo, name)
	if err != nil {
		return err
	}
	for _, a := range from {
		for _, b := range to {
			address := common(a, b)
			if a.NetworkID != b.NetworkID || !address.IsValid() {
				continue
			}
			sender, okA := s.end(a)
			receiver, okB := s.end(b)
			if !okA || !okB {
				continue
			}
			q.From, q.To, q.Address = sender, &receiver, address
			return nil
		}
	}
	return errorf(http.StatusConflict, "%s and %s are on no network together (%s and %s): "+
		"docker network connect %s %s", nameOf(from[0]), nameOf(to[0]), networksOf(from), networksOf(to),
		from[0].NetworkName, nameOf(to[0]))
}

// common returns an address of b's of a family that a has an address of, too.
func common(a, b api.Endpoint) netip.Addr {
	for _, to := range b.Addresses {
		for _, from := range a.Addresses {
			if from.Addr().Is4() == to.Addr().Is4() {
				return to.Addr()
			}
		}
	}
	return netip.Addr{}
}

// senderTo returns the endpoint that sends to an address: the one on its subnet, or else the first one of its family.
func (s *Server) senderTo(from []api.Endpoint, to netip.Addr) (check.End, error) {
	best := -1
	for i, e := range from {
		for _, a := range e.Addresses {
			switch {
			case a.Contains(to):
				best = i
			case best < 0 && a.Addr().Is4() == to.Is4():
				best = i
			}
		}
	}
	if best >= 0 {
		if end, ok := s.end(from[best]); ok {
			return end, nil
		}
		return check.End{}, goneError(from[best].ID)
	}
	return check.End{}, errorf(http.StatusConflict, "%s has no address of the family of %s", nameOf(from[0]), to)
}

func (s *Server) end(e api.Endpoint) (check.End, bool) {
	t, ok := s.tracked(e.ID)
	return check.End{Name: nameOf(e), Network: t.network, Endpoint: t.endpoint}, ok
}

// nameOf returns what people call an endpoint.
func nameOf(e api.Endpoint) string {
	if e.ContainerName != "" {
		return e.ContainerName
	}
	return fmt.Sprintf("endpoint %.12s", e.ID)
}

func networksOf(endpoints []api.Endpoint) string {
	var names []string
	for _, e := range endpoints {
		names = append(names, e.NetworkName)
	}
	return strings.Join(names, ", ")
}
