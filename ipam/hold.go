// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/weaveplugin/weave/store"
)

// Hold holds those of the addresses that no pool of the space holds yet, and returns them. Each has the length of its
// subnet; one whose subnet is that of no pool is passed over. Endpoints have addresses that the state does not know to
// be held, if an older copy of the state was put back.
func (i *IPAM) Hold(ctx context.Context, space string, addresses []netip.Prefix) ([]netip.Prefix, error) {
	held, err := change(ctx, i, func() ([]netip.Prefix, undo, error) {
		held, err := i.hold(ctx, space, addresses)
		return held, nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("hold the addresses of endpoints: %w", err)
	}
	return held, nil
}

// hold is Hold for the holder of writer.
func (i *IPAM) hold(ctx context.Context, space string, addresses []netip.Prefix) ([]netip.Prefix, error) {
	now := i.now()
	pools := map[netip.Prefix]*pool{}
	for _, p := range i.poolsOf(space) {
		pools[p.subnet] = p
	}
	missing := map[netip.Prefix]*pool{}
	var changes []store.Change
	for _, a := range addresses {
		p := pools[a.Masked()]
		if p == nil || missing[a] != nil || !p.alloc.held[a.Addr()].IsZero() || p.check(a.Addr()) != nil {
			continue
		}
		put, err := store.Put(p.addressKey(a.Addr()), addressRecord{Held: now})
		if err != nil {
			return nil, err
		}
		missing[a] = p
		changes = append(changes, put)
	}
	if len(changes) == 0 {
		return nil, nil
	}
	if err := i.store.Apply(ctx, changes...); err != nil {
		return nil, err
	}
	var held []netip.Prefix
	i.update(func() {
		for a, p := range missing {
			p.alloc.hold(a.Addr(), now, "")
			held = append(held, a)
		}
	})
	return held, nil
}
