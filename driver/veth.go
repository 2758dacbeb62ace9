// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/internal/mac"
)

// maxPorts is the number of ports of a Linux bridge: BR_MAX_PORTS, 1024, without port 0, which is not used.
const maxPorts = 1023

// groupForwardMask makes a port forward frames to the group addresses that are reserved for bridges, 01:80:c2:00:00:00
// to :0f, a bit for each. Without it the host receives such a frame as one of the port, where the isolation of the
// bridge does not apply (br_handle_frame in br_input.c). Bit 1, for pause frames, can't be set; the kernel drops
// those.
const groupForwardMask = 0xfffd

// veth describes a veth pair.
type veth struct {
	HostEnd      string      // name
	ContainerEnd string      // name
	Alias        alias       // the host end's
	MAC          mac.Address // the container end's
	MTU          int
	Bridge       netlink.Link // that the host end is a port of
	Programs     tc.Port      // at the host end
}

// addVeth makes the pair, not yet a port of the bridge, and returns its host end.
func (l links) addVeth(v veth) (netlink.Link, error) {
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
	return link, nil
}

// attachHostEnd makes a host end a port of its bridge and sets it up. Its programs come first, so that no frame passes
// without them.
func (l links) attachHostEnd(link netlink.Link, v veth) error {
	bridge := v.Bridge.Attrs()
	if err := l.setPrograms(link, v.Programs); err != nil {
		return err
	}
	l.step("make it a bridge port")
	switch err := netlink.LinkSetMasterByIndex(link, bridge.Index); {
	case errors.Is(err, unix.EXFULL): // a bridge that others use as well
		return errFull(bridge.Name)
	case err != nil:
		return fmt.Errorf("make host end %s a port of %s: %w", v.HostEnd, bridge.Name, err)
	}
	l.step("forward all groups")
	if err := netlink.LinkSetBRSlaveGroupFwdMask(link, groupForwardMask); err != nil {
		return fmt.Errorf("host end %s: forward frames to all groups: %w", v.HostEnd, err)
	}
	if err := l.setUp(link, v.Alias, v.MTU); err != nil {
		return fmt.Errorf("host end %s: %w", v.HostEnd, err)
	}
	return nil
}

func errFull(bridge string) error {
	return fmt.Errorf("%w: bridge %s has its %d ports in use: remove containers from the network or make another one",
		ErrFull, bridge, maxPorts)
}
