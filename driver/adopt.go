package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/vishvananda/netlink"
)

// Adopt takes up a network that Docker says is this plugin's, and its endpoints, where the state does not know them: the
// plugin was installed anew beside running containers. Links that an earlier state made for them are taken over as they
// are, so no traffic is lost; an endpoint without a host end is left out. What is tracked already stays as it is.
func (d *Driver) Adopt(ctx context.Context, req *network.CreateNetworkRequest, endpoints []Endpoint) error {
	nw, err := parseNetwork(req, d.mtu)
	if err != nil {
		return err
	}
	unlock, err := d.locks.lock(ctx, nw.ID)
	if err != nil {
		return err
	}
	defer unlock()
	var errs []error
	if tracked, ok := d.network(nw.ID); ok {
		nw = tracked
	} else if nw, err = d.adoptNetwork(ctx, nw); err != nil {
		return fmt.Errorf("adopt network %s: %w", nw.ID, err)
	} else if err := d.startForwarding(ctx, nw.ID); err != nil { // the firewall keeps trying
		errs = append(errs, fmt.Errorf("adopt network %s: allow forwarding: %w", nw.ID, err))
	}
	for _, ep := range endpoints {
		if _, ok := d.endpoint(ep.ID); ok {
			continue
		}
		if err := d.adoptEndpoint(ctx, nw, ep); err != nil {
			errs = append(errs, fmt.Errorf("adopt endpoint %s: %w", ep.ID, err))
		}
	}
	return errors.Join(errs...)
}

// adoptNetwork writes the record as made at once: a crash then leaves it to Reconcile to complete, and never to remove.
// When it fails the network is not tracked, so that it can be tried again; its links stay as they are.
func (d *Driver) adoptNetwork(ctx context.Context, nw Network) (_ Network, err error) {
	if nw.Bridge == "" {
		nw.Bridge = bridgeName(nw.ID)
	}
	if _, err := d.takeOver(nw.Bridge, ":network:"+string(nw.ID), networkAlias(d.stateID, nw.ID)); err != nil {
		return nw, err
	}
	if err := d.claimBridge(&nw); err != nil {
		return nw, err
	}
	var u undo
	defer u.unless(&err)
	u.push(func() error { d.drop(nw.ID); return d.eraseNetwork(context.WithoutCancel(ctx), nw) })
	if err := d.writeNetwork(ctx, nw, made); err != nil {
		return nw, err
	}
	d.log.WithField("network", nw.ID).Warn("taking up a network that Docker knows and the state does not")
	_, err = d.ensureNetworkBridge(nw)
	return nw, err
}

func (d *Driver) adoptEndpoint(ctx context.Context, nw Network, ep Endpoint) error {
	if err := checkIDs(nw.ID, ep.ID); err != nil {
		return err
	}
	mac, err := parseMAC(ep.MAC)
	if err != nil {
		return err
	}
	ep.Network, ep.MAC, ep.HostEnd, ep.State, ep.Created = nw.ID, mac, hostEndName(ep.ID), Created, time.Now().UTC()
	if ep.Sandbox != "" {
		ep.State = Joined
	}
	// One that Docker has had removed since it was read is on its way out.
	if err := d.removals.settleEndpoint(ctx, ep.ID); err != nil {
		return err
	}
	link, err := d.takeOver(ep.HostEnd, ":endpoint:"+string(ep.ID), endpointAlias(d.stateID, ep.ID))
	if err != nil || link == nil {
		return err
	}
	if err := d.writeEndpoint(ctx, ep, made); err != nil {
		return err
	}
	d.track(ep)
	if link, err = findLink(ep.HostEnd); err != nil { // again: its carrier may have come before it was tracked
		return err
	}
	d.setCarrier(ep.HostEnd, link != nil && carrier(link))
	d.log.WithField("network", ep.Network).WithField("endpoint", ep.ID).Warn("taking up an endpoint that Docker knows and the state does not")
	return nil
}

// takeOver gives a link that an earlier state made for the same object this state's alias. It returns the link of that
// name, whoever's it is, nil if there is none.
func (d *Driver) takeOver(name, object, alias string) (netlink.Link, error) {
	link, err := findLink(name)
	if err != nil || link == nil {
		return nil, err
	}
	if old := link.Attrs().Alias; old != alias && strings.HasPrefix(old, aliasPrefix) && strings.HasSuffix(old, object) {
		d.step("take over link")
		if err := netlink.LinkSetAlias(link, alias); err != nil {
			return nil, fmt.Errorf("take over %s: %w", name, err)
		}
	}
	return link, nil
}
