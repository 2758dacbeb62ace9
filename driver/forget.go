package driver

import (
	"context"
	"errors"
	"time"
)

// Forget removes the endpoints that Docker no longer knows: made before the given moment, not among the known, and
// without a living container. Docker forgets endpoints without a word when it was killed, or when a call to a plugin that
// was not there timed out. The caller vouches that known is Docker's whole and present list.
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

// forget removes the endpoint unless it is in a container, and reports whether it did.
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
	case link != nil && d.inContainer(ep, link):
		d.logOf(ep).Warn("Docker does not know this endpoint, but its container end is in use: leaving it alone")
		return false, nil
	}
	d.logOf(ep).Warn("removing an endpoint that Docker has forgotten")
	return true, d.retire(ctx, ep)
}
