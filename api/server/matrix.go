// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/weaveplugin/weave/api"
)

// checksAtOnce is how many pairs of a matrix are checked at a time. A pair without an answer takes four seconds.
const checksAtOnce = 8

// checkAll answers with a stream of what is found between each two containers that share a network, until the client
// leaves.
func (s *Server) checkAll(w http.ResponseWriter, r *http.Request) {
	parameters, err := parseParameters(r.URL.RawQuery, api.ParamNetwork, api.ParamPort)
	if err != nil {
		Refuse(w, badRequest(err))
		return
	}
	port, err := parsePort(parameters)
	if err != nil {
		Refuse(w, badRequest(err))
		return
	}
	if s.options.Checker == nil {
		Refuse(w, errNoChecker)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.running, cancel)()
	pairs, leftOut, err := s.pairs(ctx, parameters[api.ParamNetwork])
	if err != nil {
		Refuse(w, err)
		return
	}
	if !s.matrices.TryAcquire(1) {
		Refuse(w, errorf(http.StatusServiceUnavailable,
			"all pairs are being checked already: wait until that has ended"))
		return
	}
	defer s.matrices.Release(1)
	w.Header().Set("Content-Type", api.TypeLines)
	if err := s.sendMatrix(ctx, newStream(w, fileTime), pairs, leftOut, port); err != nil {
		s.debug(err)
	}
}

// pairs returns the questions between each two running endpoints of this host that share a network. First come those
// between neighbours in the listing, so that each endpoint is in some of them however many are left out later.
// There are at most MaxPairs; leftOut is how many more there would be.
func (s *Server) pairs(ctx context.Context, networks []string) (all []namedPair, leftOut int, err error) {
	if err := checkFilters(api.ParamNetwork, networks); err != nil {
		return nil, 0, badRequest(err)
	}
	l, err := s.selectEndpoints(api.Query{Networks: networks, Local: true})
	if err != nil || l.lacksName {
		s.refresh(ctx)
		l, err = s.selectEndpoints(api.Query{Networks: networks, Local: true})
	}
	if err != nil {
		return nil, 0, err
	}
	running := map[string][]api.Endpoint{} // by the network's id
	own := map[string][]api.Endpoint{}     // by the container's
	var ids []string                       // of the networks, in order
	most := 0
	for _, e := range l.entries {
		own[e.ContainerID] = append(own[e.ContainerID], e)
		if e.Sandbox == "" {
			continue
		}
		if running[e.NetworkID] == nil {
			ids = append(ids, e.NetworkID)
		}
		running[e.NetworkID] = append(running[e.NetworkID], e)
		most = max(most, len(running[e.NetworkID]))
	}
	for distance := 1; distance < most; distance++ {
		for _, id := range ids {
			members := running[id]
			if distance >= len(members) {
				continue
			}
			for i, a := range members {
				if len(all) == api.MaxPairs {
					leftOut += len(members) - i
					break
				}
				b := members[(i+distance)%len(members)]
				all = append(all, namedPair{a, b, addressesOf(own[b.ContainerID])})
			}
		}
	}
	return all, leftOut, nil
}

// namedPair is a sender and a receiver, and all addresses of the receiver's container.
type namedPair struct {
	from, to api.Endpoint
	own      []netip.Addr
}

// sendMatrix checks the pairs, several at a time, and sends what is found, in their order.
func (s *Server) sendMatrix(ctx context.Context, w stream, pairs []namedPair, leftOut int, port uint16) error {
	ctx, cancel := context.WithCancel(ctx)
	summary := api.CheckSummary{LeftOut: leftOut}
	found := make([]chan api.PairCheck, len(pairs))
	for i := range found {
		found[i] = make(chan api.PairCheck, 1)
	}
	var group errgroup.Group
	group.SetLimit(checksAtOnce)
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		for i, p := range pairs {
			if ctx.Err() != nil {
				return
			}
			group.Go(func() error {
				found[i] <- s.checkPair(ctx, p, port)
				return nil
			})
		}
	}()
	defer func() {
		cancel()
		<-fed
		_ = group.Wait() // none of them returns an error
	}()
	for i := range pairs {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case c := <-found[i]:
			summary.Checked++
			if c.Check.Failed != "" {
				summary.Failed++
			}
			if err := json.NewEncoder(w).Encode(api.CheckLine{Pair: &c}); err != nil {
				return err
			}
		}
	}
	return json.NewEncoder(w).Encode(api.CheckLine{Summary: &summary})
}

// checkPair checks one pair. One that is gone by now has nothing that fails.
func (s *Server) checkPair(ctx context.Context, p namedPair, port uint16) api.PairCheck {
	c := api.PairCheck{Network: p.from.NetworkName, From: nameOf(p.from), To: nameOf(p.to)}
	gone := c
	gone.Check = api.Check{Question: c.From + " to " + c.To + ": gone by now", Layers: []api.Checked{}}
	q, ok := s.pair(p.from, p.to)
	if !ok {
		return gone
	}
	ctx, cancel := context.WithTimeout(ctx, api.RequestTimeout)
	defer cancel()
	q.Port, q.Own, q.Name, q.Quick = port, p.own, p.to.ContainerName, true
	result := s.options.Checker.Check(ctx, q)
	if s.gone(q) != "" {
		return gone
	}
	c.Check = answerTo(q, result)
	return c
}
