// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/internal/mac"
)

// maxPorts is the number of ports of a Linux bridge: BR_MAX_PORTS, 1024, without port 0, which is not used.
const maxPorts = 1023

// veth describes a veth pair.
type veth struct {
	HostEnd      string      // name
	ContainerEnd string      // name
	Alias        alias       // the host end's
	MAC          mac.Address // the container end's
	MTU          int
	Bridge       *hostLink // that the host end is a port of; nil: it is missing
	Port         tc.Port   // what is done at the host end
}

// hostEnd is the pair's host end as weave makes it.
func (v veth) hostEnd() wanted {
	return wanted{
		name: v.HostEnd, kind: "veth", alias: v.Alias, mtu: v.MTU, bridge: v.Bridge, programs: tc.AtPort(v.Port),
	}
}

// wantedHostEnd is an endpoint's host end as weave makes it, without its bridge.
func wantedHostEnd(stateID string, nw Network, ep Endpoint) wanted {
	return wanted{
		name: ep.HostEnd, kind: "veth", alias: endpointAlias(stateID, ep.ID), mtu: nw.MTU,
		programs: tc.AtPort(portOf(nw, ep)),
	}
}

// addVeth makes the pair, not yet a port of the bridge, and returns its host end.
func (l links) addVeth(v veth) (*hostLink, error) {
	attrs := linkNamed(v.HostEnd)
	attrs.MTU = v.MTU
	link := &netlink.Veth{
		LinkAttrs: attrs,
		PeerName:  v.ContainerEnd, PeerHardwareAddr: net.HardwareAddr(v.MAC[:]), PeerMTU: uint32(v.MTU),
	}
	l.step("add veth pair")
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("make veth pair %s, %s: %w", v.HostEnd, v.ContainerEnd, err)
	}
	return &hostLink{Link: link}, nil
}

// attachHostEnd makes a host end a port of its bridge and sets it up.
func (l links) attachHostEnd(link *hostLink, v veth) error {
	if err := l.mend(link, v.hostEnd(), nil); err != nil {
		return fmt.Errorf("host end %s: %w", v.HostEnd, err)
	}
	return nil
}

func errFull(bridge string) error {
	return fmt.Errorf("%w: bridge %s has its %d ports in use: remove containers from the network or make another one",
		ErrFull, bridge, maxPorts)
}
