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
	var gone []EndpointID
	var errs []error
	for _, ep := range d.Endpoints() {
		if known[ep.ID] || !ep.Created.Before(before) {
			continue
		}
		forgotten, err := d.forget(ctx, ep)
		if err != nil {
			errs = append(errs, err)
		}
		if forgotten {
			gone = append(gone, ep.ID)
		}
	}
	return gone, errors.Join(errs...)
}

func (d *Driver) forget(ctx context.Context, ep Endpoint) (bool, error) {
	unlock, err := d.locks.lock(ctx, ep.Network)
	if err != nil {
		return false, err
	}
	defer unlock()
	ep, ok := d.endpoint(ep.ID)
	if !ok {
		return false, nil
	}
	log := d.log.WithField("network", ep.Network).WithField("endpoint", ep.ID)
	link, err := findLink(ep.HostEnd)
	switch {
	case err != nil:
		return false, err
	case link != nil && d.occupied(ep, link):
		log.Warn("Docker does not know this endpoint, but its container end is in use: leaving it alone")
		return false, nil
	}
	log.Warn("removing an endpoint that Docker has forgotten")
	return true, d.retire(ctx, ep)
}
