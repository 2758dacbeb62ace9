// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink/nl"

	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/overlay"
)

// Tunnel says where this host takes the VXLAN packets of other hosts.
type Tunnel struct {
	Local netip.Addr // its VTEP
	Port  uint16     // UDP, the same on all hosts
}

// Device is the name of the VXLAN device of a network of the cluster.
func (def Definition) Device() string { return deviceName(def.ID) }

// wantedDevice is the VXLAN device of a network of the cluster as weave makes it, without its bridge. What comes from
// other hosts has passed their guards.
func wantedDevice(stateID string, nw Network, tunnel Tunnel) wanted {
	name := deviceName(nw.ID)
	return wanted{
		name: name, kind: "vxlan", alias: networkAlias(stateID, nw.ID), mtu: nw.MTU,
		programs: tc.AtPort(tc.Port{Tag: nw.Tagged}),
		device:   overlay.Device{Name: name, VNI: nw.VNI, Port: tunnel.Port, Local: tunnel.Local, MTU: nw.MTU},
	}
}

// devicePortProperties are what a VXLAN device is as a port of its bridge.
func devicePortProperties() []property {
	out := []property{{"port state", wrongPortState, func(l links, have *hostLink, _ wanted) error {
		return l.setPort(have, "state", nl.IFLA_BRPORT_STATE, portForwarding)
	}}}
	for _, s := range overlay.PortSettings {
		out = append(out, portAttribute(s.Name, s.Attribute, s.Value))
	}
	return out
}

// planDevice plans for the VXLAN device of a network of the cluster.
func (w world) planDevice(p *plan, nw Network, bridge *hostLink) {
	if nw.VNI == 0 {
		return
	}
	if !w.tunnel.Local.IsValid() { // the device stays as it is
		p.problems = append(p.problems, problem{"network " + string(nw.ID), errNoCluster(nw.Definition)})
		return
	}
	want := wantedDevice(w.stateID, nw, w.tunnel)
	if isBridge(bridge) {
		want.bridge = bridge
	}
	s := step{action: ensureDevice, network: nw, link: w.find(want)}
	if s.link == nil {
		s.flaws = []flaw{missing}
		p.steps = append(p.steps, s)
		return
	}
	if text := want.device.Wrong(s.link.Link); s.link.Type() == want.kind && text != "" {
		s.flaws = []flaw{{"tunnel", text}}
		p.steps = append(p.steps, s)
		return
	}
	w.planLink(p, want, s)
}

// ensureDevice makes a network's VXLAN device, or puts right what is wrong with it. One that is for another tunnel is
// made anew.
func (d *Driver) ensureDevice(nw Network, leaveOut func(property string) bool) error {
	if !d.tunnel.Local.IsValid() {
		return errNoCluster(nw.Definition)
	}
	want, err := wantedDevice(d.stateID, nw, d.tunnel).onBridge(nw.Bridge)
	if err != nil {
		return err
	}
	link, err := d.links.findOwn(want)
	if err != nil {
		return err
	}
	if link != nil && want.device.Wrong(link.Link) != "" {
		if err := d.links.remove(link); err != nil {
			return err
		}
		link = nil
	}
	if link == nil {
		d.step("add VXLAN device")
		if err := want.device.Add(); err != nil {
			return err
		}
		if link, err = findHostLink(want.name); err == nil && link == nil {
			err = errors.New("VXLAN device " + want.name + " is gone already")
		}
		if err != nil {
			return err
		}
	}
	return want.device.Explain(d.links.mend(link, want, leaveOut))
}
