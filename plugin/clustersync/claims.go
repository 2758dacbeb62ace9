// SPDX-License-Identifier: Apache-2.0

package clustersync

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
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
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.published:
		}
		s.claimAll(ctx)
		s.publish() // what was claimed, and without what another host has by now
	}
}

func (s *Sync) claimAll(ctx context.Context) {
	networks := map[driver.NetworkID]driver.Network{}
	for _, nw := range s.o.Driver.Networks() {
		networks[nw.ID] = nw
	}
	var found []string
	for _, ep := range s.o.Driver.Endpoints() {
		nw := networks[ep.Network]
		for _, a := range ep.Addresses {
			err := s.claim(ctx, nw, a)
			switch {
			case errors.Is(err, cluster.ErrConflict):
				found = append(found, fmt.Sprintf("endpoint %s: another host may give its address %s to a "+
					"container of its own: restart its container", ep.ID, a.Addr()))
			case err != nil:
				s.o.Log.WithError(err).WithField("endpoint", ep.ID).Debug("claim its address: will be tried again")
				return
			}
		}
	}
	s.unclaimed.Set(found, s.o.Log)
}

// claim claims an address of a network of the cluster, if this host does not hold it.
func (s *Sync) claim(ctx context.Context, nw driver.Network, address netip.Prefix) error {
	subnet, ok := nw.SubnetOf(address.Addr())
	if nw.Cluster == "" || !ok || s.o.Cluster.Holds(nw.Cluster, address.Addr()) {
		return nil
	}
	_, err := s.o.Cluster.ClaimAddress(ctx, nw.Cluster, subnet, address.Addr())
	return err
}

// Problems tells of containers whose addresses are not this host's, a line each.
func (s *Sync) Problems() []string { return s.unclaimed.Get() }
