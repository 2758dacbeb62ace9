// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/weaveplugin/weave/api"
	"github.com/weaveplugin/weave/driver/check"
)

// Checker finds out why a container does not reach another one. check.Checker is one.
type Checker interface {
	Check(context.Context, check.Question) check.Result
}

var errNoChecker = errorf(http.StatusNotFound, "nothing can be checked here")

// check answers with what is found on the way between two containers, or to an address.
func (s *Server) check(ctx context.Context, r *http.Request) (any, error) {
	return s.checkIf(ctx, r, func(check.Question) error { return nil })
}

// checkIf is check of what is allowed.
func (s *Server) checkIf(ctx context.Context, r *http.Request, allowed func(check.Question) error) (any, error) {
	parameters, err := parseParameters(r.URL.RawQuery, api.ParamFrom, api.ParamTo, api.ParamPort)
	if err != nil {
		return nil, badRequest(err)
	}
	for _, name := range []string{api.ParamFrom, api.ParamTo} {
		if n := len(parameters[name]); n != 1 {
			return nil, errorf(http.StatusBadRequest, "parameter %s: given %d times; want one", name, n)
		}
	}
	port, err := parsePort(parameters)
	if err != nil {
		return nil, badRequest(err)
	}
	if s.options.Checker == nil {
		return nil, errNoChecker
	}
	q, err := s.question(ctx, parameters.Get(api.ParamFrom), parameters.Get(api.ParamTo))
	if err != nil {
		return nil, err
	}
	if err := allowed(q); err != nil {
		return nil, err
	}
	q.Port = port
	result := s.options.Checker.Check(ctx, q)
	if id := s.gone(q); id != "" {
		return nil, goneError(id)
	}
	return answerTo(q, result), nil
}

// gone returns the id of an endpoint that a question is about and that has left its sandbox since it was asked; empty
// if none has.
func (s *Server) gone(q check.Question) string {
	ends := []check.End{q.From}
	if q.To != nil {
		ends = append(ends, *q.To)
	}
	for _, e := range ends {
		id := string(e.Endpoint.ID)
		if t, ok := s.tracked(id); !ok || t.endpoint.Sandbox != e.Endpoint.Sandbox {
			return id
		}
	}
	return ""
}

func answerTo(q check.Question, r check.Result) api.Check {
	return api.Check{Question: q.String(), Failed: r.Failed, Layers: r.Layers}
}

// parsePort parses a port of TCP; 0: there is none.
func parsePort(parameters url.Values) (uint16, error) {
	given, ok := parameters[api.ParamPort]
	if !ok {
		return 0, nil
	}
	port, err := strconv.ParseUint(given[0], 10, 16)
	if err != nil || port == 0 || len(given) > 1 {
		return 0, fmt.Errorf("parameter %s: %.80q: want 1..65535", api.ParamPort, given)
	}
	return uint16(port), nil
}

// question returns what is asked: whether a container reaches another one, on whichever host, or an address.
func (s *Server) question(ctx context.Context, from, to string) (q check.Question, err error) {
	senders, err := s.allEndpoints(ctx, api.ParamFrom, from)
	if err != nil {
		return q, err
	}
	if address, err := netip.ParseAddr(to); err == nil {
		return s.questionOf(senders, address.Unmap())
	}
	receivers, named, err := s.receivers(ctx, to)
	if err != nil {
		return q, err
	}
	for _, a := range senders {
		for _, b := range receivers {
			if found, ok := s.pair(a, b); ok {
				if found.Own = addressesOf(receivers); named {
					found.Name = b.ContainerName
				}
				return found, nil
			}
		}
	}
	return q, errorf(http.StatusConflict, "%s and %s are on no network together (%s and %s): "+
		"docker network connect %s %s", nameOf(senders[0]), nameOf(receivers[0]), networksOf(senders),
		networksOf(receivers), senders[0].NetworkName, nameOf(receivers[0]))
}

// questionOf returns the question whether one of the endpoints reaches an address, of whomever it is.
func (s *Server) questionOf(senders []api.Endpoint, to netip.Addr) (q check.Question, err error) {
	if !to.IsGlobalUnicast() || to.Zone() != "" {
		return q, errorf(http.StatusBadRequest, "parameter %s: %s: want a container, or an address that is one host's "+
			"and neither its loopback nor a link-local one", api.ParamTo, to)
	}
	l, err := s.selectEndpoints(api.Query{})
	if err != nil {
		return q, err
	}
	for _, a := range senders {
		for _, b := range l.entries {
			if a.ID == b.ID || !slices.Contains(addrsOf(b), to) {
				continue
			}
			if found, ok := s.pair(a, b); ok && found.Address.Is4() == to.Is4() {
				found.Address = to
				return found, nil
			}
		}
	}
	q.Address = to
	q.From, err = s.senderTo(senders, to)
	return q, err
}

// receivers returns the endpoints that a name or an id means: those on this host, or else those on others. It is named
// if it is the name of a container, which goes before the beginning of another one's id.
func (s *Server) receivers(ctx context.Context, to string) (found []api.Endpoint, named bool, err error) {
	isNamed := func(e api.Endpoint) bool { return e.ContainerName == strings.TrimPrefix(to, "/") }
	local, err := s.allEndpoints(ctx, api.ParamTo, to)
	if slices.ContainsFunc(local, isNamed) {
		return local, true, nil
	}
	remote := s.remoteEndpoints(to)
	if named = slices.ContainsFunc(remote, isNamed); named || len(local) == 0 && len(remote) > 0 {
		return remote, named, nil
	}
	return local, false, err
}

// pair returns the question whether an endpoint of this host reaches another one; it is not ok if they are on no
// network together.
func (s *Server) pair(a, b api.Endpoint) (q check.Question, ok bool) {
	q.Address = common(a, b)
	if a.NetworkID != b.NetworkID || !q.Address.IsValid() {
		return q, false
	}
	if q.From, ok = s.end(a); !ok {
		return q, false
	}
	if b.Remote {
		q.Host = b.Host
		return q, true
	}
	receiver, ok := s.end(b)
	q.To = &receiver
	return q, ok
}

// remoteEndpoints returns the endpoints of other hosts, on networks that this host is on, that a container's name or id
// means.
func (s *Server) remoteEndpoints(name string) (found []api.Endpoint) {
	l, err := s.selectEndpoints(api.Query{Containers: []string{name}})
	if err != nil {
		return nil // it has no filters that could be wrong
	}
	for _, e := range l.entries {
		if e.Remote {
			found = append(found, e)
		}
	}
	return found
}

// addressesOf returns the addresses of all of the endpoints.
func addressesOf(endpoints []api.Endpoint) (all []netip.Addr) {
	for _, e := range endpoints {
		all = append(all, addrsOf(e)...)
	}
	return all
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
