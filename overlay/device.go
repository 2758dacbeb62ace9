// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device is the VXLAN device of a network: the port of the network's bridge behind which the other hosts are.
type Device struct {
	Name  string
	VNI   uint32     // 24 bits
	Port  uint16     // UDP port, the same on all hosts
	Local netip.Addr // this host's VTEP, an IPv4 or IPv6 address of the underlay
	MTU   int        // of the frames inside, in bytes
}

// Add makes the device. It is down, and a port of no bridge yet.
//
// It has no group: what is for several hosts goes to each of them, as the flood entries say. The time to live is what
// the host's packets have by default, so that hosts may be several routers apart. The flag DF is not set: where the
// underlay's way is narrower than its MTU says, a frame arrives in fragments. With DF it would be lost, silently where
// no ICMP comes back. (Over IPv6 there is no such choice: routers never fragment, and the kernel does what they ask.)
func (d Device) Add() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = d.Name, d.MTU
	err := netlink.LinkAdd(&netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: int(d.VNI), Port: int(d.Port), SrcAddr: d.Local.Unmap().AsSlice(), NoAge: true,
	})
	if err != nil {
		return fmt.Errorf("add VXLAN device %s (VNI %d, UDP port %d, local %s): %w",
			d.Name, d.VNI, d.Port, d.Local, d.Explain(err))
	}
	return nil
}

// Explain adds to an error of making the device, or of setting it up, what is in the way if that is another program's.
func (d Device) Explain(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w: another program has UDP port %d: end it, or give all hosts another one (--cluster-port)",
			err, d.Port)
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: another VXLAN device has VNI %d at UDP port %d, see ip -d link show type vxlan: "+
			"remove it, or give all hosts another port (--cluster-port)", err, d.VNI, d.Port)
	}
	return err
}

// Wrong tells in which of the things that can't be changed a link differs from the device, such as "VNI 7, not 8".
// Empty: it fits.
func (d Device) Wrong(link netlink.Link) string {
	have, ok := link.(*netlink.Vxlan)
	if !ok {
		return fmt.Sprintf("a %s, not a vxlan", link.Type())
	}
	var wrong []string
	differ := func(what string, is, want any) {
		if is != want {
			wrong = append(wrong, fmt.Sprintf("%s %v, not %v", what, is, want))
		}
	}
	local, _ := netip.AddrFromSlice(have.SrcAddr)
	differ("VNI", have.VxlanId, int(d.VNI))
	differ("UDP port", have.Port, int(d.Port))
	differ("local address", local.Unmap(), d.Local.Unmap())
	differ("learning", have.Learning, false)
	if len(have.Group) > 0 {
		differ("group", have.Group.String(), "none")
	}
	differ("external", have.FlowBased, false)
	return strings.Join(wrong, ", ")
}
