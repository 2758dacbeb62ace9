package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

// Adopt takes up a network that Docker says is this plugin's, and its endpoints, where the state does not know them: the
// plugin was installed anew beside running containers. Links that an earlier state made for them are taken over as they
// are, so no traffic is lost; an endpoint without a host end is left out. What is tracked already stays as it is.
func (d *Driver) Adopt(ctx context.Context, spec NetworkSpec, endpoints []AdoptedEndpoint) error {
	if err := d.withDefaults(spec).check(); err != nil {
		return err
	}
	unlock, err := d.locks.lock(ctx, spec.ID)
	if err != nil {
		return err
	}
	defer unlock()
	var errs []error
	nw, ok := d.tracked.network(spec.ID)
	if !ok {
		if nw, err = d.adoptNetwork(ctx, spec); err != nil {
			return fmt.Errorf("adopt network %s: %w", spec.ID, err)
		}
		if err := d.setForwarding(ctx); err != nil { // the firewall keeps trying
			errs = append(errs, fmt.Errorf("adopt network %s: %w", spec.ID, err))
		}
	}
	for _, ep := range endpoints {
		if _, ok := d.tracked.endpoint(ep.ID); ok {
			continue
		}
		ep.Network = nw.ID
		if err := d.adoptEndpoint(ctx, ep); err != nil {
			errs = append(errs, fmt.Errorf("adopt endpoint %s: %w", ep.ID, err))
		}
	}
	return errors.Join(errs...)
}

// adoptNetwork writes the record as made at once: a crash then leaves it to Reconcile to complete, never to remove. When it
// fails the network is not tracked, so that it can be tried again; its links stay as they are.
func (d *Driver) adoptNetwork(ctx context.Context, spec NetworkSpec) (_ Network, err error) {
	name := cmp.Or(spec.Bridge, bridgeName(spec.ID))
	if _, err := d.takeOver(name, networkAlias(d.stateID, spec.ID)); err != nil {
		return Network{}, err
	}
	nw, err := d.newNetwork(spec)
	if err != nil {
		return Network{}, err
	}
	if err := d.tracked.claimNetwork(nw); err != nil {
		return Network{}, err
	}
	var u undo
	defer u.onError(&err)
	u.push(func() error {
		d.tracked.removeNetwork(nw.ID)
		return d.eraseNetwork(context.WithoutCancel(ctx), nw)
	})
	nw.Phase = Made
	if err := d.writeNetwork(ctx, nw); err != nil {
		return nw, err
	}
	d.log.WithField("network", nw.ID).Warn("taking up a network that Docker knows and the state does not")
	if _, err := d.ensureNetworkBridge(nw); err != nil {
		return nw, err
	}
	d.tracked.setNetwork(nw)
	return nw, nil
}

func (d *Driver) adoptEndpoint(ctx context.Context, adopted AdoptedEndpoint) error {
	if err := adopted.check(); err != nil {
		return err
	}
	if adopted.MAC.IsZero() {
		return fmt.Errorf("%w: Docker tells no MAC", ErrInvalid)
	}
	// It may be that Docker has had it deleted since Docker's list was read.
	if err := d.removals.waitEndpoint(ctx, adopted.ID); err != nil {
		return err
	}
	ep := Endpoint{
		ID: adopted.ID, Network: adopted.Network, HostEnd: hostEndName(adopted.ID), MAC: adopted.MAC, Addresses: adopted.Addresses,
		Sandbox: adopted.Sandbox, Created: time.Now().UTC(),
	}
	link, err := d.takeOver(ep.HostEnd, endpointAlias(d.stateID, ep.ID))
	if err != nil || link == nil {
		return err
	}
	if err := d.writeEndpoint(ctx, ep, Made); err != nil {
		return err
	}
	d.tracked.addEndpoint(ep)
	d.logOf(ep).Warn("taking up an endpoint that Docker knows and the state does not")
	link, err = findLink(ep.HostEnd) // again, since its carrier may have come before it was tracked
	if err != nil {
		return err
	}
	d.tracked.setCarrier(ep.HostEnd, link != nil && hasCarrier(link))
	return nil
}

// takeOver gives a link that an earlier state made for the same network or endpoint this state's alias. It returns the
// link of that name, whoever's it is, nil if there is none.
func (d *Driver) takeOver(name string, want alias) (netlink.Link, error) {
	link, err := findLink(name)
	if err != nil || link == nil {
		return nil, err
	}
	old, ok := parseAlias(link.Attrs().Alias)
	if ok && old != want && old.sameSubject(want) {
		d.step("take over link")
		if err := netlink.LinkSetAlias(link, want.String()); err != nil {
			return nil, fmt.Errorf("take over %s: %w", name, err)
		}
	}
	return link, nil
}
