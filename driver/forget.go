// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"time"
)

// Forget removes the endpoints that Docker no longer knows, and returns them: those made before the given time, not
// among the known, and without a living container or one that Docker may be starting. Docker forgets endpoints without
// telling the plugin when it is killed, or when a call times out because the plugin is not running. The caller must
// make sure that known is complete.
func (d *Driver) Forget(ctx context.Context, known map[EndpointID]bool, before time.Time) ([]EndpointID, error) {
	var removed []EndpointID
	var errs []error
	for _, ep := range d.tracked.Endpoints() {
		if known[ep.ID] || !ep.Created.Before(before) {
			continue
		}
		ok, err := d.forget(ctx, ep)
		if err != nil {
			errs = append(errs, err)
		}
		if ok {
			removed = append(removed, ep.ID)
		}
	}
	return removed, errors.Join(errs...)
}

// forget removes the endpoint if it is in no container, and reports whether it did.
func (d *Driver) forget(ctx context.Context, ep Endpoint) (bool, error) {
	ep, ok, unlock, err := d.lockEndpoint(ctx, ep.Network, ep.ID)
	if err != nil {
		return false, err
	}
	defer unlock()
	if !ok {
		return false, nil
	}
	link, err := findLink(ep.HostEnd)
	switch {
	case err != nil:
		return false, err
	case link != nil && d.isStarting(ep, link): // Docker may list it only when the container runs
		return false, nil
	case link != nil && d.inContainer(ep, link):
		d.logOf(ep).Warn("Docker does not know this endpoint, but its container end is in use: leaving it alone")
		return false, nil
	}
	d.logOf(ep).Warn("removing an endpoint that Docker has forgotten")
	return true, d.retire(ctx, ep)
}
