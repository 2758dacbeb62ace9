// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/nsproc/netstate"
)

// withoutLost returns a living endpoint without those of the wanted addresses that its container end does not have any
// more. Docker 29 gives an IPv6 address back that a sysctl of the endpoint has removed again, and tells no remote
// network driver (moby, daemon/libnetwork/sandbox_linux.go, populateNetworkResourcesOS). Whoever hands out addresses
// has decided whose it is; the look into the sandbox makes sure that two don't use one.
func (d *Driver) withoutLost(ctx context.Context, ep Endpoint, wanted []netip.Prefix) Endpoint {
	inside := d.containerEnd(ctx, ep)
	if inside == nil {
		return ep
	}
	ep.Addresses = slices.DeleteFunc(slices.Clone(ep.Addresses), func(a netip.Prefix) bool {
		same := func(p netip.Prefix) bool { return p.Addr() == a.Addr() }
		return slices.ContainsFunc(wanted, same) && !slices.ContainsFunc(inside.Addresses, same)
	})
	return ep
}

// shed records that a living endpoint has given addresses away: left is what it has now.
func (d *Driver) shed(ctx context.Context, old, left Endpoint) error {
	if err := d.writeEndpoint(ctx, left, Made); err != nil {
		return err
	}
	d.tracked.setAddresses(left.ID, left.Addresses, causeOf(ctx))
	d.logOf(left).Warnf("of its addresses %v its container has only %v left: another endpoint gets the rest",
		old.Addresses, left.Addresses)
	return nil
}

// containerEnd returns the endpoint's container end as the kernel shows it in the sandbox, once Docker has given it its
// addresses. It is nil if Docker may not have got so far, or if the kernel does not tell.
func (d *Driver) containerEnd(ctx context.Context, ep Endpoint) *netstate.Link {
	// Docker sets a container end up after it has set its addresses.
	if d.kernel == nil || ep.Sandbox == "" || ep.State() != Up && d.docker.mayFollow(ep.Created) {
		return nil
	}
	hostEnd, err := findLink(ep.HostEnd)
	if err != nil || hostEnd == nil {
		return nil
	}
	found, err := d.kernel.List(ctx, ep.Sandbox)
	if err != nil {
		d.logOf(ep).WithError(err).Debug("look which addresses an endpoint has")
		return nil
	}
	i := slices.IndexFunc(found.Links, func(l netstate.Link) bool { return isPeer(l, hostEnd) })
	if i < 0 {
		return nil
	}
	return &found.Links[i]
}

// isPeer reports whether a link in a sandbox is the other end of a host end. Indexes are unique only within a
// namespace, so each end must name the other's.
func isPeer(inside netstate.Link, hostEnd netlink.Link) bool {
	a := hostEnd.Attrs()
	return inside.Kind == "veth" && inside.Peer == a.Index && inside.Index == a.ParentIndex
}
