// SPDX-License-Identifier: Apache-2.0

package clustersync

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/driver"
)

// claimPause is the time between two looks at whether this host holds the addresses of its endpoints, when these don't
// change. It does not if it was away for so long that others have got its blocks, or if its state was lost: for the
// cluster it is another host then.
const claimPause = 30 * time.Second

// keepClaims claims the addresses of this host's endpoints that it does not hold, until ctx ends.
func (s *Sync) keepClaims(ctx context.Context) {
	tick := time.NewTicker(claimPause)
	defer tick.Stop()
	for {
		ticked := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			ticked = true
		case <-s.published:
		}
		if s.claimAll(ctx) || ticked {
			s.publish() // what was claimed, and without what another host has by now
		}
	}
}

// claimAll claims the addresses of all endpoints, and reports whether there were some that this host did not hold.
func (s *Sync) claimAll(ctx context.Context) (lacked bool) {
	networks := map[driver.NetworkID]driver.Network{}
	for _, nw := range s.o.Driver.Networks() {
		networks[nw.ID] = nw
	}
	var found []string
	for _, ep := range s.o.Driver.Endpoints() {
		nw := networks[ep.Network]
		for _, a := range ep.Addresses {
			if s.isHeld(nw, a.Addr()) {
				continue
			}
			lacked = true
			err := s.claim(ctx, nw, a.Addr())
			switch {
			case errors.Is(err, cluster.ErrConflict):
				found = append(found, fmt.Sprintf("endpoint %s: another host may give its address %s to a "+
					"container of its own: restart its container", ep.ID, a.Addr()))
			case err != nil:
				s.o.Log.WithError(err).WithField("endpoint", ep.ID).Debug("claim its address: will be tried again")
				return lacked
			}
		}
	}
	s.unclaimed.Set(found, s.o.Log)
	return lacked
}

// isHeld reports whether this host may use an address, as far as the cluster is concerned.
func (s *Sync) isHeld(nw driver.Network, a netip.Addr) bool {
	_, ok := nw.SubnetOf(a)
	return nw.Cluster == "" || !ok || s.o.Cluster.Holds(nw.Cluster, a)
}

// claim claims an address of a network of the cluster.
func (s *Sync) claim(ctx context.Context, nw driver.Network, a netip.Addr) error {
	subnet, _ := nw.SubnetOf(a)
	_, err := s.o.Cluster.ClaimAddress(ctx, nw.Cluster, subnet, a)
	return err
}

// Problems tells of containers whose addresses are not this host's, and of those that have one MAC, a line each.
func (s *Sync) Problems() []string { return slices.Concat(s.unclaimed.Get(), s.twiceTold.Get()) }
