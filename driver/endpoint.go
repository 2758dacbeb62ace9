// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/launch"
)

// insidePrefix begins the name of the container end in the sandbox, unless the network has another prefix; Docker
// appends the next free number.
const insidePrefix = "eth"

// CreateEndpoint makes the endpoint's veth pair, the host end a port of the bridge and up, and returns the endpoint.
// The same request again gets the same answer. Errors are ErrInvalid, ErrNotFound (the network), ErrConflict (the
// address or the MAC is in use, or the endpoint is there with others) and ErrFull.
func (d *Driver) CreateEndpoint(ctx context.Context, spec EndpointSpec) (Endpoint, error) {
	if err := spec.check(); err != nil {
		return Endpoint{}, err
	}
	unlock, err := d.lock(ctx, spec.Network)
	if err != nil {
		return Endpoint{}, err
	}
	defer unlock()
	ep, err := d.createEndpoint(ctx, spec)
	if err != nil {
		return Endpoint{}, fmt.Errorf("create endpoint %s: %w", spec.ID, err)
	}
	return ep, nil
}

func (d *Driver) createEndpoint(ctx context.Context, spec EndpointSpec) (Endpoint, error) {
	nw, ok := d.tracked.network(spec.Network)
	if !ok {
		return Endpoint{}, fmt.Errorf("%w: network %s is unknown to this plugin (see `weave networks`): "+
			"it is taken up when Docker's API tells of it, otherwise remove it and create it again",
			ErrNotFound, spec.Network)
	}
	if nw.Phase == Going { // the next start would remove the endpoint with it
		return Endpoint{}, fmt.Errorf("%w: network %s is removed only in part: create it again first",
			ErrNotFound, spec.Network)
	}
	if old, ok := d.tracked.endpoint(spec.ID); ok {
		if spec.matches(old) {
			return old, nil
		}
		return Endpoint{}, fmt.Errorf("%w: it is there already, with other addresses, MAC or network", ErrConflict)
	}
	if err := nw.checkAddresses(spec.Addresses); err != nil {
		return Endpoint{}, err
	}
	// A pair of the same endpoint that is being removed has the names that the new one will have.
	if err := d.removals.waitEndpoint(ctx, spec.ID); err != nil {
		return Endpoint{}, err
	}
	others := d.tracked.endpointsOf(nw.ID)
	if err := d.retireConflicting(ctx, spec, others); err != nil {
		return Endpoint{}, err
	}
	if err := d.claimMAC(ctx, nw, spec); err != nil {
		return Endpoint{}, err
	}
	claimed, err := d.claimAddresses(ctx, nw, spec)
	if err != nil {
		return Endpoint{}, errors.Join(err, d.releaseMAC(ctx, nw, spec.ID, spec.MAC))
	}
	ep, err := d.createClaimed(ctx, nw, spec, claimed)
	if err != nil {
		return Endpoint{}, errors.Join(err, d.giveBack(ctx, nw, claimed), d.releaseMAC(ctx, nw, spec.ID, spec.MAC))
	}
	return ep, nil
}

// createClaimed creates an endpoint whose addresses are this host's to have.
func (d *Driver) createClaimed(ctx context.Context, nw Network, spec EndpointSpec, claimed []netip.Addr) (
	Endpoint, error,
) {
	if err := d.ensureFreePort(ctx, nw); err != nil {
		return Endpoint{}, err
	}
	ep := Endpoint{
		ID: spec.ID, Network: spec.Network, HostEnd: hostEndName(spec.ID), MAC: spec.MAC, Addresses: spec.Addresses,
		Router: spec.Router, Programs: true, Claimed: claimed, Created: time.Now().UTC(),
	}
	if ep.MAC.IsZero() {
		ep.MAC = newMAC(d.tracked.endpointsOf(nw.ID))
	}
	return ep, d.makeEndpoint(ctx, nw, ep)
}

// newMAC returns a random MAC, locally administered, that none of the others has. It is not derived from the address:
// when an address is used again its MAC is another one, so a stale neighbour entry is never mistaken for a valid one.
func newMAC(others []Endpoint) mac.Address {
	for {
		var a mac.Address
		rand.Read(a[:]) // never fails, by its documentation
		a[0] = a[0]&^1 | 2
		if !slices.ContainsFunc(others, func(ep Endpoint) bool { return ep.MAC == a }) {
			return a
		}
	}
}

// makeEndpoint writes the record, then makes the veth pair. If a step fails, those before it are undone.
func (d *Driver) makeEndpoint(ctx context.Context, nw Network, ep Endpoint) (err error) {
	bridge, err := d.ensureNetworkBridge(ctx, nw)
	if err != nil {
		return err
	}
	var u undo
	defer u.onError(&err)
	undoRecord := d.eraseEndpoint
	u.push(func() error { return undoRecord(context.WithoutCancel(ctx), ep) })
	if err := d.writeEndpoint(ctx, ep, Making); err != nil {
		return err
	}
	pair := veth{
		wanted: wantedHostEnd(d.stateID, nw, ep), ContainerEnd: containerEndName(ep.ID), MAC: ep.MAC,
	}
	pair.bridge = bridge
	link, err := d.links.addVeth(pair)
	if err != nil {
		return err
	}
	undoRecord = d.removeEndpoint // the pair first, since the record names it
	if err := d.links.attachHostEnd(link, pair); err != nil {
		return err
	}
	if err := d.writeEndpoint(ctx, ep, Made); err != nil {
		return err
	}
	d.tracked.addEndpoint(ep, causeOf(ctx))
	return nil
}

// Join records the sandbox, Docker's SandboxKey, and returns the link that Docker is to move into it. Up to Docker 27
// the sandbox does not exist yet. A container that publishes ports is ErrInvalid on a network without Docker's way out:
// nothing would publish them there.
func (d *Driver) Join(ctx context.Context, nw NetworkID, id EndpointID, sandbox string, ports Ports) (
	Attachment, error,
) {
	if !filepath.IsAbs(sandbox) || filepath.Clean(sandbox) != sandbox {
		return Attachment{}, fmt.Errorf("%w: sandbox key %q: want the path of a sandbox", ErrInvalid, sandbox)
	}
	if err := d.sandboxError(sandbox); errors.Is(err, launch.ErrHost) {
		return Attachment{}, fmt.Errorf("%w: sandbox key: %w", ErrInvalid, err)
	}
	ep, ok, unlock, err := d.lockEndpoint(ctx, nw, id)
	if err != nil {
		return Attachment{}, err
	}
	defer unlock()
	network, _ := d.tracked.network(nw) // tracked as long as its endpoints are
	switch {
	case !ok:
		return Attachment{}, fmt.Errorf("join: %w: endpoint %s of network %s", ErrNotFound, id, nw)
	case ports == Published && network.replacesDockers() && !network.isRouter(ep):
		return Attachment{}, fmt.Errorf("join endpoint %s: %w", id, network.errPublishes())
	case ep.Sandbox != "" && ep.Sandbox != sandbox:
		return Attachment{}, fmt.Errorf("join: %w: endpoint %s is in sandbox %s already", ErrConflict, id, ep.Sandbox)
	}
	a := Attachment{Link: containerEndName(id), Prefix: cmp.Or(network.InterfacePrefix, insidePrefix)}
	switch {
	case ep.Sandbox != "": // the same answer again
		a.Gateway, a.GatewayIPv6 = byFamily(ep.Gateways)
	case ports == NoPorts || network.replacesDockers():
		a.Gateway, a.GatewayIPv6 = network.gatewaysOf(ep)
	}
	// Where somebody else is the router, nothing leaves by Docker's gateway, also if the router has no IPv4 address.
	a.NotByDockers = network.replacesDockers() && !network.isRouter(ep) && !a.Gateway.IsValid()
	if ep.Sandbox != "" {
		return a, nil
	}
	if err := d.checkRouter(network, ep); err != nil {
		return Attachment{}, fmt.Errorf("join endpoint %s: %w", id, err)
	}
	ep.Sandbox = sandbox
	for _, gateway := range []netip.Addr{a.Gateway, a.GatewayIPv6} {
		if gateway.IsValid() {
			ep.Gateways = append(ep.Gateways, gateway)
		}
	}
	if err := d.writeJoined(ctx, ep); err != nil {
		return Attachment{}, fmt.Errorf("join endpoint %s: %w", id, err)
	}
	return a, nil
}

// byFamily returns the IPv4 and the IPv6 address among one of each at most.
func byFamily(addresses []netip.Addr) (ipv4, ipv6 netip.Addr) {
	for _, a := range addresses {
		if a.Is4() {
			ipv4 = a
		} else {
			ipv6 = a
		}
	}
	return ipv4, ipv6
}

// writeJoined records the endpoint's sandbox and gateways; an empty sandbox means that it is in none any more.
func (d *Driver) writeJoined(ctx context.Context, ep Endpoint) error {
	if err := d.writeEndpoint(ctx, ep, Made); err != nil {
		return err
	}
	d.tracked.setJoined(ep, causeOf(ctx))
	return nil
}

// SetExternal records whether Docker has made the endpoint's gateways the container's way out. An unknown endpoint is
// no error: after a restart of its own Docker may ask for one that it has lost.
func (d *Driver) SetExternal(ctx context.Context, nw NetworkID, id EndpointID, external bool) error {
	ep, ok, unlock, err := d.lockEndpoint(ctx, nw, id)
	if err != nil {
		return err
	}
	defer unlock()
	if !ok || ep.External == external || ep.Sandbox == "" {
		return nil
	}
	ep.External = external
	d.tracked.setExternal(id, external)
	if err := d.writeEndpoint(ctx, ep, Made); err != nil { // no reason for Docker not to start a container
		d.logOf(ep).WithError(err).Warn("the record does not say which way out the container has")
	}
	return nil
}

// lockEndpoint checks the ids, locks the network and finds the endpoint on it; ok is false if there is none.
func (d *Driver) lockEndpoint(ctx context.Context, nw NetworkID, id EndpointID) (
	ep Endpoint, ok bool, unlock func(), err error,
) {
	if err := checkIDs(nw, id); err != nil {
		return ep, false, nil, err
	}
	unlock, err = d.lock(ctx, nw)
	if err != nil {
		return ep, false, nil, err
	}
	ep, ok = d.tracked.endpoint(id)
	return ep, ok && ep.Network == nw, unlock, nil
}

// Leave records that the endpoint is in no sandbox any more. The link stays: Docker moves it out after the answer, and
// if it can't it keeps the interface on its lists. An unknown endpoint is no error, since Docker forgets it whatever
// weave answers.
func (d *Driver) Leave(ctx context.Context, nw NetworkID, id EndpointID) error {
	ep, ok, unlock, err := d.lockEndpoint(ctx, nw, id)
	if err != nil {
		return err
	}
	defer unlock()
	if !ok || ep.Sandbox == "" {
		return nil
	}
	ep.Sandbox, ep.Gateways, ep.External = "", nil, false
	if err := d.writeJoined(ctx, ep); err != nil {
		return fmt.Errorf("leave endpoint %s: %w", id, err)
	}
	return nil
}

// DeleteEndpoint removes the endpoint. Its veth pair is removed after the answer, since that takes the kernel some 15
// ms. An unknown endpoint is no error.
func (d *Driver) DeleteEndpoint(ctx context.Context, nw NetworkID, id EndpointID) error {
	ep, ok, unlock, err := d.lockEndpoint(ctx, nw, id)
	if err != nil {
		return err
	}
	defer unlock()
	if !ok {
		if ep, ok = d.left.endpoint(nw, id); !ok {
			return nil
		}
	}
	d.deleted.add(ep, d.docker) // before it is untracked: then its addresses seem free
	if err := d.retire(ctx, ep); err != nil {
		return fmt.Errorf("delete endpoint %s: %w", id, err)
	}
	d.left.dropEndpoint(id)
	return nil
}
