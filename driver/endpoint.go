package driver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/docker/go-plugins-helpers/network"
	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/nsproc/launch"
)

// insidePrefix is what Docker names the container end inside the sandbox, with the next free number behind it.
const insidePrefix = "eth"

// startTime is how long the engine may take from one call to what follows: an endpoint counts as living that long without a
// carrier and without a sandbox, since a container is being started with it. Up to Docker 27 the sandbox is made only after
// Join.
const startTime = 10 * time.Second

// CreateEndpoint makes the endpoint's veth pair, the host end a port of the bridge and up. The answer holds only what
// the request left open, the MAC: Docker refuses to be told what it has said itself. The same request again gets the same
// answer.
func (d *Driver) CreateEndpoint(ctx context.Context, req *network.CreateEndpointRequest) (*network.CreateEndpointResponse, error) {
	ep, err := parseEndpoint(req)
	if err != nil {
		return nil, err
	}
	unlock, err := d.locks.lock(ctx, ep.Network)
	if err != nil {
		return nil, err
	}
	defer unlock()
	made, err := d.createEndpoint(ctx, ep)
	if err != nil {
		return nil, fmt.Errorf("create endpoint %s: %w", ep.ID, err)
	}
	answer := &network.EndpointInterface{}
	if ep.MAC == "" {
		answer.MacAddress = made.MAC
	}
	return &network.CreateEndpointResponse{Interface: answer}, nil
}

func (d *Driver) createEndpoint(ctx context.Context, ep Endpoint) (Endpoint, error) {
	nw, ok := d.network(ep.Network)
	if !ok {
		return ep, fmt.Errorf("%w: network %s is unknown to this plugin: remove it and create it again, or see `weave networks`", ErrNotFound, ep.Network)
	}
	if old, ok := d.endpoint(ep.ID); ok {
		if old.Network == ep.Network && slices.Equal(old.Addresses, ep.Addresses) && (ep.MAC == "" || ep.MAC == old.MAC) {
			return old, nil
		}
		return ep, fmt.Errorf("%w: it is there already, with other addresses, MAC or network", ErrConflict)
	}
	if err := nw.inPools(ep.Addresses); err != nil {
		return ep, err
	}
	if err := d.removals.settleEndpoint(ctx, ep.ID); err != nil { // its links have the names that the new ones will have
		return ep, err
	}
	others := d.endpointsOf(nw.ID)
	if err := d.makeWay(ctx, ep, others); err != nil {
		return ep, err
	}
	if err := d.makeRoom(ctx, nw, others); err != nil {
		return ep, err
	}
	if ep.MAC == "" {
		ep.MAC = newMAC(others)
	}
	ep.HostEnd, ep.State, ep.Created = hostEndName(ep.ID), Created, time.Now().UTC()
	return ep, d.makeEndpoint(ctx, nw, ep)
}

// makeWay retires the endpoints that have the new one's MAC or one of its addresses but no living container. A living
// one is a reason to refuse.
func (d *Driver) makeWay(ctx context.Context, ep Endpoint, others []Endpoint) error {
	for _, old := range others {
		what := clash(ep, old)
		if what == "" {
			continue
		}
		alive, err := d.living(old)
		if err != nil {
			return err
		}
		if alive {
			return fmt.Errorf("%w: %s is in use on this network by endpoint %s (`weave ps` shows whose it is)", ErrConflict, what, old.ID)
		}
		d.log.WithField("network", old.Network).WithField("endpoint", old.ID).Warnf("%s is wanted by endpoint %s: removing this one, which has no living container", what, ep.ID)
		if err := d.retire(ctx, old); err != nil {
			return err
		}
	}
	return nil
}

// clash names what both endpoints claim, "" if nothing.
func clash(a, b Endpoint) string {
	if a.MAC != "" && a.MAC == b.MAC {
		return "MAC " + a.MAC
	}
	for _, x := range a.Addresses {
		if b.has(x.Addr()) {
			return "address " + x.Addr().String()
		}
	}
	return ""
}

// living reports whether a container has the endpoint, or is about to.
func (d *Driver) living(ep Endpoint) (bool, error) {
	link, err := findLink(ep.HostEnd)
	if err != nil || link == nil {
		return false, err
	}
	return !carrier(link) && d.starting(ep) || d.occupied(ep, link), nil
}

// occupied reports whether the endpoint, with this host end, is in a container. Docker unmounts the sandbox of a
// container that has ended, and the kernel takes its time to remove what was inside: so a carrier alone means nothing.
func (d *Driver) occupied(ep Endpoint, hostEnd netlink.Link) bool {
	if ep.Sandbox == "" {
		return false
	}
	err := d.sandboxError(ep.Sandbox)
	return err == nil || errors.Is(err, launch.ErrNotVisible) && carrier(hostEnd)
}

// sandboxError is nil if the sandbox is there.
func (d *Driver) sandboxError(sandbox string) error {
	file, err := d.launcher.Sandboxes().Open(sandbox)
	if err != nil {
		return err
	}
	return file.Close()
}

// makeRoom makes sure that the bridge has a port left: it waits for pairs on their way out, then retires endpoints
// without a living container.
func (d *Driver) makeRoom(ctx context.Context, nw Network, others []Endpoint) error {
	if len(others)+d.removals.count(nw.ID) < maxPorts {
		return nil
	}
	if err := d.removals.settle(ctx, nw.ID); err != nil {
		return err
	}
	others = d.endpointsOf(nw.ID)
	if len(others) < maxPorts {
		return nil
	}
	for _, old := range others {
		alive, err := d.living(old)
		if err != nil {
			return err
		}
		if !alive {
			d.log.WithField("network", old.Network).WithField("endpoint", old.ID).Warn("network is full: removing this endpoint, which has no living container")
			if err := d.retire(ctx, old); err != nil {
				return err
			}
			return d.removals.settleEndpoint(ctx, old.ID)
		}
	}
	return errFull(nw.Bridge)
}

// newMAC is a random MAC, locally administered, unicast, that none of the others has. It does not follow from the
// address: an address that is used again comes with another MAC, so that no stale neighbour entry seems right.
func newMAC(others []Endpoint) string {
	for {
		mac := make(net.HardwareAddr, 6)
		rand.Read(mac) // never fails, by its documentation
		mac[0] = mac[0]&^1 | 2
		text := mac.String()
		if !slices.ContainsFunc(others, func(ep Endpoint) bool { return ep.MAC == text }) {
			return text
		}
	}
}

// makeEndpoint makes the veth pair, the record first; what a failure leaves is taken back.
func (d *Driver) makeEndpoint(ctx context.Context, nw Network, ep Endpoint) (err error) {
	bridge, err := d.ensureNetworkBridge(nw)
	if err != nil {
		return err
	}
	var u undo
	defer u.unless(&err)
	u.push(func() error { return d.eraseEndpoint(context.WithoutCancel(ctx), ep) })
	if err := d.writeEndpoint(ctx, ep, making); err != nil {
		return err
	}
	alias := endpointAlias(d.stateID, ep.ID)
	pair := veth{HostEnd: ep.HostEnd, ContainerEnd: containerEndName(ep.ID), Alias: alias, MAC: ep.MAC, MTU: nw.MTU, Bridge: bridge}
	if err := d.links.makeVeth(pair); err != nil {
		return err
	}
	u.push(func() error { return d.links.deleteNamed(ep.HostEnd, "veth", alias) })
	if err := d.writeEndpoint(ctx, ep, made); err != nil {
		return err
	}
	d.track(ep)
	return nil
}

// Join tells Docker which link to move into the sandbox. The sandbox may not exist yet. Docker then gives the container
// its way out over docker_gwbridge, since no gateway is answered.
func (d *Driver) Join(ctx context.Context, req *network.JoinRequest) (*network.JoinResponse, error) {
	if !filepath.IsAbs(req.SandboxKey) || filepath.Clean(req.SandboxKey) != req.SandboxKey {
		return nil, fmt.Errorf("%w: sandbox key %q: want the path of a sandbox", ErrInvalid, req.SandboxKey)
	}
	ep, ok, unlock, err := d.lockEndpoint(ctx, req.NetworkID, req.EndpointID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	switch {
	case !ok:
		return nil, fmt.Errorf("join: %w: endpoint %s of network %s", ErrNotFound, req.EndpointID, req.NetworkID)
	case ep.Sandbox == "":
		ep.Sandbox, ep.State = req.SandboxKey, Joined
		if err := d.writeEndpoint(ctx, ep, made); err != nil {
			return nil, fmt.Errorf("join endpoint %s: %w", ep.ID, err)
		}
		d.track(ep)
	case ep.Sandbox != req.SandboxKey:
		return nil, fmt.Errorf("join: %w: endpoint %s is in sandbox %s already", ErrConflict, ep.ID, ep.Sandbox)
	}
	return &network.JoinResponse{InterfaceName: network.InterfaceName{SrcName: containerEndName(ep.ID), DstPrefix: insidePrefix}}, nil
}

// lockEndpoint checks the ids, locks the network and finds the endpoint on it; ok is false if there is none.
func (d *Driver) lockEndpoint(ctx context.Context, networkID, endpointID string) (ep Endpoint, ok bool, unlock func(), err error) {
	nw, id := NetworkID(networkID), EndpointID(endpointID)
	if err := checkIDs(nw, id); err != nil {
		return ep, false, nil, err
	}
	unlock, err = d.locks.lock(ctx, nw)
	if err != nil {
		return ep, false, nil, err
	}
	ep, ok = d.endpoint(id)
	return ep, ok && ep.Network == nw, unlock, nil
}

// Leave takes the endpoint out of its sandbox. The link stays: Docker moves it out after the answer, and keeps its
// interface on its lists if it can't. An unknown endpoint is no error: Docker has forgotten it whatever the answer.
func (d *Driver) Leave(ctx context.Context, req *network.LeaveRequest) error {
	ep, ok, unlock, err := d.lockEndpoint(ctx, req.NetworkID, req.EndpointID)
	if err != nil {
		return err
	}
	defer unlock()
	if !ok || ep.Sandbox == "" {
		return nil
	}
	ep.Sandbox, ep.State = "", Created
	if err := d.writeEndpoint(ctx, ep, made); err != nil {
		return fmt.Errorf("leave endpoint %s: %w", ep.ID, err)
	}
	d.track(ep)
	return nil
}

// DeleteEndpoint removes the endpoint. Its veth pair goes after the answer, since that waits for the kernel. An unknown
// endpoint is no error.
func (d *Driver) DeleteEndpoint(ctx context.Context, req *network.DeleteEndpointRequest) error {
	ep, ok, unlock, err := d.lockEndpoint(ctx, req.NetworkID, req.EndpointID)
	if err != nil {
		return err
	}
	defer unlock()
	if !ok {
		return nil
	}
	d.depart(ep) // first: once it is untracked its addresses would look like nobody's
	if err := d.retire(ctx, ep); err != nil {
		return fmt.Errorf("delete endpoint %s: %w", ep.ID, err)
	}
	return nil
}
