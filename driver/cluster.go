// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/weaveplugin/weave/cluster"
	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/overlay"
)

// spanSwarm makes a network of Swarm's one of the cluster, by its own id, if nobody has named another one and it can be
// one: on single hosts its services would not reach each other.
func (d *Driver) spanSwarm(spec NetworkSpec) NetworkSpec {
	if spec.Swarm && spec.Cluster == "" && spec.Bridge == "" && d.cluster != nil {
		spec.Cluster = string(spec.ID)
	}
	return spec
}

// joinCluster makes this host a member of the network of the cluster that spec names, if it names one, and returns spec
// with what all hosts have in common.
func (d *Driver) joinCluster(ctx context.Context, spec NetworkSpec) (NetworkSpec, error) {
	if spec.Cluster == "" {
		return spec, nil
	}
	if d.cluster == nil {
		return spec, invalidOption(OptionNetwork, spec.Cluster,
			"this host is in no cluster: start weave with --cluster")
	}
	if nw, ok := d.tracked.networkOf(spec.Cluster); ok && nw.ID != spec.ID {
		return spec, fmt.Errorf("%w: option %s=%s: network %s of this host is that already",
			ErrConflict, OptionNetwork, spec.Cluster, nw.ID)
	}
	most, err := d.mostMTU()
	if err != nil {
		return spec, err
	}
	if spec.MTU > most {
		return spec, invalidOption(optionMTU, fmt.Sprint(spec.MTU), fmt.Sprintf(
			"between hosts at most %d bytes fit into the packets of the underlay", most))
	}
	want := cluster.Network{Name: spec.Cluster, MTU: spec.MTU}
	if want.MTU == 0 {
		want.MTU = min(d.mtu, most)
	}
	for _, p := range spec.Pools {
		want.Subnets = append(want.Subnets, cluster.Subnet{Subnet: p.Subnet, Gateway: p.Gateway})
	}
	_, wasMember := d.cluster.Network(spec.Cluster) // by weave's IPAM
	joined, err := d.cluster.Join(ctx, want)
	if err != nil {
		return spec, err
	}
	if err := spec.checkJoined(joined, most); err != nil {
		if !wasMember {
			err = errors.Join(err, d.leaveCluster(ctx, spec.Definition))
		}
		return spec, err
	}
	spec.VNI, spec.MTU = joined.VNI, joined.MTU
	if lacking := d.lackingSubnets(spec.Definition); len(lacking) > 0 {
		d.log.WithField("network", spec.ID).Warn(errLacking(spec.Cluster, lacking))
	}
	return spec, nil
}

// checkJoined returns ErrConflict if the network of the cluster has an MTU that this host can't have, or another one
// than the user wants.
func (spec NetworkSpec) checkJoined(joined cluster.Network, most int) error {
	switch {
	case spec.MTU != 0 && spec.MTU != joined.MTU:
		return fmt.Errorf("%w: option %s: network %s of the cluster has MTU %d, and here it would be %d: leave "+
			"the option out", ErrConflict, optionMTU, spec.Cluster, joined.MTU, spec.MTU)
	case joined.MTU > most:
		return fmt.Errorf("%w: network %s of the cluster has MTU %d, and only %d fits into the packets of this "+
			"host's underlay: make it again with %s=%d on all hosts, or enlarge the underlay's MTU here",
			ErrConflict, spec.Cluster, joined.MTU, most, optionMTU, most)
	}
	return nil
}

// mostMTU is the largest MTU that a network between hosts can have now, by the ways to the hosts that are there.
func (d *Driver) mostMTU() (int, error) {
	var peers []netip.Addr
	for _, h := range d.cluster.Hosts() {
		if h.Present && h.VTEP != d.tunnel.Local {
			peers = append(peers, h.VTEP)
		}
	}
	mtu, err := overlay.UnderlayMTU(d.tunnel.Local, peers...)
	if err != nil {
		return 0, err
	}
	return mtu - overlay.Overhead(d.tunnel.Local), nil
}

// tunnelProblems tells of networks whose frames don't fit into the packets of the underlay any more.
func (d *Driver) tunnelProblems(networks []Network) []problem {
	networks = slices.DeleteFunc(networks, func(nw Network) bool { return nw.VNI == 0 })
	if d.cluster == nil || len(networks) == 0 {
		return nil
	}
	most, err := d.mostMTU()
	if err != nil {
		return []problem{{"networks between hosts", err}}
	}
	var out []problem
	for _, nw := range networks {
		if nw.MTU > most {
			out = append(out, problem{"network " + string(nw.ID), fmt.Errorf(
				"its MTU is %d, and only %d fits into the packets of the underlay: larger ones go in fragments, or "+
					"are lost: enlarge the underlay's MTU to %d, or make the network again on all hosts with %s=%d",
				nw.MTU, most, nw.MTU+overlay.Overhead(d.tunnel.Local), optionMTU, most)})
		}
	}
	return out
}

// subnetProblems tells of networks that have a subnet on other hosts which they lack here.
func (d *Driver) subnetProblems(networks []Network) (out []problem) {
	for _, nw := range networks {
		if nw.VNI == 0 || d.cluster == nil {
			continue
		}
		if lacking := d.lackingSubnets(nw.Definition); len(lacking) > 0 {
			out = append(out, problem{"network " + string(nw.ID), errLacking(nw.Cluster, lacking)})
		}
	}
	return out
}

// lackingSubnets returns the subnets that a network has on other hosts and not here: those that the cluster knew when
// this host joined, and those of endpoints there, since a host that joined later may have added one.
func (d *Driver) lackingSubnets(def Definition) []netip.Prefix {
	lacking := map[netip.Prefix]bool{}
	joined, _ := d.cluster.Network(def.Cluster)
	for _, s := range joined.Subnets {
		lacking[s.Subnet] = true
	}
	remotes, _ := d.cluster.Remotes(def.Cluster)
	for _, r := range remotes {
		for _, a := range r.Addresses {
			if a.IsValid() {
				lacking[a.Masked()] = true
			}
		}
	}
	for _, p := range def.Pools {
		delete(lacking, p.Subnet)
	}
	return slices.SortedFunc(maps.Keys(lacking), netip.Prefix.Compare)
}

// errLacking says that containers of this host have no addresses of some of a network's subnets.
func errLacking(network string, subnets []netip.Prefix) error {
	return fmt.Errorf("network %s of the cluster has %v on other hosts, and not here, so containers here have no "+
		"addresses of it: make the network again here, with --ipv6 for an IPv6 subnet", network, subnets)
}

// NetworkOf returns the network of this host that is the one of the cluster with that name.
func (d *Driver) NetworkOf(cluster string) (Network, bool) { return d.tracked.networkOf(cluster) }

// IsOnCluster reports whether a network of this host is the one of the cluster with that name.
func (d *Driver) IsOnCluster(name string) bool {
	_, ok := d.tracked.networkOf(name)
	return ok
}

// OnCluster reports whether the network of this id is one of the cluster.
func (d *Driver) OnCluster(id NetworkID) bool {
	nw, ok := d.tracked.network(id)
	return ok && nw.Cluster != ""
}

// leaveCluster ends this host's membership of a network of the cluster, unless another Docker network is that one.
func (d *Driver) leaveCluster(ctx context.Context, def Definition) error {
	if def.Cluster == "" || d.cluster == nil || d.IsOnCluster(def.Cluster) {
		return nil
	}
	return d.cluster.Leave(context.WithoutCancel(ctx), def.Cluster)
}

// claimAddresses claims the addresses of an endpoint on a network of the cluster, those that weave's IPAM of this host
// has not handed out, and returns these. It is cluster.ErrConflict if another host has one of them.
func (d *Driver) claimAddresses(ctx context.Context, nw Network, spec EndpointSpec) (claimed []netip.Addr, err error) {
	if nw.Cluster == "" {
		return nil, nil
	}
	if d.cluster == nil {
		return nil, errNoCluster(nw.Definition)
	}
	for _, a := range spec.Addresses {
		if subnet, ok := nw.SubnetOf(a.Addr()); ok {
			isNew, err := d.cluster.ClaimAddress(ctx, nw.Cluster, subnet, a.Addr())
			if err != nil {
				return nil, errors.Join(err, d.giveBack(ctx, nw, claimed))
			}
			if isNew {
				claimed = append(claimed, a.Addr())
			}
		}
	}
	return claimed, nil
}

// claimMAC claims the MAC that a user has named for an endpoint on a network of the cluster. It is cluster.ErrConflict
// if an endpoint on another host has it.
func (d *Driver) claimMAC(ctx context.Context, nw Network, spec EndpointSpec) error {
	if nw.Cluster == "" || d.cluster == nil || spec.MAC.IsZero() {
		return nil
	}
	remotes, _ := d.cluster.Remotes(nw.Cluster)
	for _, r := range remotes { // random ones among them, which nobody has claimed
		if r.MAC == spec.MAC {
			return fmt.Errorf("%w: MAC %s is that of %s on host %s", cluster.ErrConflict, spec.MAC, r.Owner(),
				d.cluster.HostName(r.Host))
		}
	}
	return d.cluster.ClaimMAC(ctx, nw.Cluster, spec.MAC, string(spec.ID))
}

// releaseMAC lets other hosts have the MAC of an endpoint, if it was claimed.
func (d *Driver) releaseMAC(ctx context.Context, nw Network, id EndpointID, address mac.Address) error {
	if nw.Cluster == "" || d.cluster == nil {
		return nil
	}
	return d.cluster.ReleaseMAC(context.WithoutCancel(ctx), nw.Cluster, address, string(id))
}

// giveBack gives back addresses that were claimed for one endpoint.
func (d *Driver) giveBack(ctx context.Context, nw Network, claimed []netip.Addr) error {
	if len(claimed) == 0 || d.cluster == nil {
		return nil
	}
	var singles []netip.Prefix
	for _, a := range claimed {
		singles = append(singles, netip.PrefixFrom(a, a.BitLen()))
	}
	return d.cluster.GiveBack(context.WithoutCancel(ctx), nw.Cluster, singles)
}

// errNoCluster says that a network is one of a cluster, but this host is in none.
func errNoCluster(def Definition) error {
	return fmt.Errorf("%w: network %s is one of a cluster, and this host is in none: start weave with --cluster",
		ErrInvalid, def.Cluster)
}

// SubnetOf returns the subnet that an address is in, if there is one.
func (def Definition) SubnetOf(addr netip.Addr) (netip.Prefix, bool) {
	for _, p := range def.Pools {
		if p.Subnet.Contains(addr) {
			return p.Subnet, true
		}
	}
	return netip.Prefix{}, false
}
