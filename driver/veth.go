// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"fmt"
	"net"

	"github.com/vishvananda/netlink"

	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/internal/mac"
)

// MaxPorts is the number of ports of a Linux bridge: BR_MAX_PORTS, 1024, without port 0, which is not used.
const MaxPorts = 1023

// veth describes a veth pair.
type veth struct {
	wanted                   // the host end
	ContainerEnd string      // name
	MAC          mac.Address // the container end's
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
	attrs := linkNamed(v.name)
	attrs.MTU = v.mtu
	link := &netlink.Veth{
		LinkAttrs: attrs,
		PeerName:  v.ContainerEnd, PeerHardwareAddr: net.HardwareAddr(v.MAC[:]), PeerMTU: uint32(v.mtu),
	}
	l.step("add veth pair")
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("make veth pair %s, %s: %w", v.name, v.ContainerEnd, err)
	}
	return &hostLink{Link: link, programs: &tc.Attached{}}, nil
}

// attachHostEnd makes a host end a port of its bridge and sets it up.
func (l links) attachHostEnd(link *hostLink, v veth) error {
	if err := l.mend(link, v.wanted, nil); err != nil {
		return fmt.Errorf("host end %s: %w", v.name, err)
	}
	return nil
}

func errFull(bridge string) error {
	return fmt.Errorf("%w: bridge %s has its %d ports in use: remove containers from the network or make another one",
		ErrFull, bridge, MaxPorts)
}
