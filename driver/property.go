// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver/tc"
	"github.com/weaveplugin/weave/overlay"
)

// wanted is a link as weave makes it.
type wanted struct {
	name   string
	kind   string // "bridge", "veth" or "vxlan"
	alias  alias
	mtu    int
	bridge *hostLink // of a host end or a VXLAN device: what it is a port of; nil if that is missing

	programs tc.Attached
	gateways []netip.Prefix // the addresses of a bridge that is a gateway, see bridgeAddresses
	ipv6     bool           // of another bridge: it has IPv6, see hostIsolation
	device   overlay.Device // of a VXLAN device: what can't be changed
}

// property is one of the things that make a link what weave makes it. A link is made by putting its properties right,
// and kept so while weave runs; the plan and `weave status` tell by the same rows what is wrong.
type property struct {
	name  string                                           // for people
	wrong func(have *hostLink, want wanted) string         // what is not as it should be, such as "mtu 1400, not 1500"
	set   func(l links, have *hostLink, want wanted) error // puts it right, in the kernel and in have
}

// The properties, in the order in which they are put right. What somebody may set who administers the host is not
// among them: a bridge may be put into a VRF, get further ports, run the spanning tree protocol, or filter VLANs.
var (
	bridgeProperties  = apartFromHost(1)
	clusterProperties = apartFromHost(0)
	gatewayProperties = slices.Concat(
		[]property{{"name", wrongName, setName}, programs}, hostAtGateway, linkProperties(wrongBridgeMTU))
	hostEndProperties = slices.Concat( // the programs before the bridge, so that no frame passes without them
		[]property{{"name", wrongName, setName}, programs, {"bridge", wrongMaster, setMaster}},
		portProperties, linkProperties(wrongMTU))
	deviceProperties = slices.Concat(
		[]property{{"name", wrongName, setName}, programs, {"bridge", wrongMaster, setMaster}},
		devicePortProperties(), linkProperties(wrongMTU))
)

// apartFromHost are the properties of a bridge that the host is no member of.
func apartFromHost(disableIPv6 uint32) []property {
	return slices.Concat(
		[]property{{"name", wrongName, setName}, programs}, hostIsolation(disableIPv6), linkProperties(wrongBridgeMTU))
}

// addressesProperty is the property that a link has no addresses but those that are the gateways of its network.
const addressesProperty = "addresses"

// linkProperties are those that bridges and host ends have in common. A link is set up last.
func linkProperties(wrongMTU func(*hostLink, wanted) string) []property {
	return []property{
		{"alias", wrongAlias, setAlias},
		{"mtu", wrongMTU, setMTU},
		{"link-local addresses", wrongGenMode, setGenMode},
		{addressesProperty, wrongAddresses, setAddresses},
		{"up", wrongUp, setUp},
	}
}

func (w wanted) properties() []property {
	switch {
	case w.kind == "vxlan":
		return deviceProperties
	case w.kind != "bridge":
		return hostEndProperties
	case len(w.gateways) > 0:
		return gatewayProperties
	case w.ipv6:
		return clusterProperties
	}
	return bridgeProperties
}

// flaw is one property of a link that is not as weave makes it.
type flaw struct {
	property string
	text     string // what is wrong
}

// flaws returns what is wrong with a link.
func (w wanted) flaws(have *hostLink) []flaw {
	var out []flaw
	for _, p := range w.properties() {
		if text := p.wrong(have, w); text != "" {
			out = append(out, flaw{p.name, text})
		}
	}
	return out
}

// texts joins what is wrong to one text.
func texts(flaws []flaw) string {
	out := make([]string, len(flaws))
	for i, f := range flaws {
		out[i] = f.text
	}
	return strings.Join(out, ", ")
}

// mend puts right what is wrong with a link, but for the properties that are to be left out. What can't be put right
// keeps nothing else from being so.
func (l links) mend(have *hostLink, want wanted, leaveOut func(property string) bool) error {
	if err := l.lookAtPrograms(have); err != nil {
		return err
	}
	var errs []error
	for _, p := range want.properties() {
		if leaveOut != nil && leaveOut(p.name) || p.wrong(have, want) == "" {
			continue
		}
		if err := p.set(l, have, want); err != nil {
			errs = append(errs, err)
		}
	}
	if have.Attrs().Alias == want.alias.String() {
		l.made.note(want.name, have.Attrs().Index)
	}
	return errors.Join(errs...)
}

func wrongName(have *hostLink, want wanted) string {
	if name := have.Attrs().Name; name != want.name {
		return "renamed to " + name
	}
	return ""
}

// setName sets the link down first where the kernel demands that: before Linux 6.2 it does.
func setName(l links, have *hostLink, want wanted) error {
	l.step("set name")
	err := netlink.LinkSetName(have, want.name)
	if errors.Is(err, unix.EBUSY) {
		if err = netlink.LinkSetDown(have); err == nil {
			have.Attrs().Flags &^= net.FlagUp
			err = netlink.LinkSetName(have, want.name)
		}
	}
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", have.Attrs().Name, want.name, err)
	}
	have.Attrs().Name = want.name
	return nil
}

func wrongAlias(have *hostLink, want wanted) string {
	switch text := have.Attrs().Alias; text {
	case want.alias.String():
		return ""
	case "":
		return "no alias"
	default:
		return fmt.Sprintf("alias %q", text)
	}
}

// setAlias has a message of its own, since the kernel ignores an alias in the message that makes a link.
func setAlias(l links, have *hostLink, want wanted) error {
	l.step("set alias")
	if err := netlink.LinkSetAlias(have, want.alias.String()); err != nil {
		return fmt.Errorf("set alias: %w", err)
	}
	have.Attrs().Alias = want.alias.String()
	return nil
}

func wrongMTU(have *hostLink, want wanted) string {
	if mtu := have.Attrs().MTU; mtu != want.mtu {
		return fmt.Sprintf("mtu %d, not %d", mtu, want.mtu)
	}
	return ""
}

// wrongBridgeMTU lets a bridge have a lower MTU if it has that from a port that somebody else has added: the kernel
// gives a bridge the lowest MTU of its ports.
func wrongBridgeMTU(have *hostLink, want wanted) string {
	if mtu := have.Attrs().MTU; mtu < want.mtu && mtu == have.portMTU {
		return ""
	}
	return wrongMTU(have, want)
}

func setMTU(l links, have *hostLink, want wanted) error {
	l.step("set mtu")
	if err := netlink.LinkSetMTU(have, want.mtu); err != nil {
		return fmt.Errorf("set mtu %d: %w", want.mtu, err)
	}
	have.Attrs().MTU = want.mtu
	return nil
}

func wrongMaster(have *hostLink, want wanted) string {
	switch index := have.Attrs().MasterIndex; {
	case index == 0:
		return "port of no bridge"
	case want.bridge == nil || index != want.bridge.Attrs().Index:
		return "port of another bridge"
	}
	return ""
}

func setMaster(l links, have *hostLink, want wanted) error {
	if want.bridge == nil {
		return fmt.Errorf("%w: its bridge", ErrNotFound)
	}
	bridge := want.bridge.Attrs()
	l.step("make it a bridge port")
	switch err := netlink.LinkSetMasterByIndex(have, bridge.Index); {
	case errors.Is(err, unix.EXFULL): // a bridge that others use as well
		return errFull(bridge.Name)
	case err != nil:
		return fmt.Errorf("make it a port of %s: %w", bridge.Name, err)
	}
	have.Attrs().MasterIndex = bridge.Index
	have.port = newPort()
	return nil
}

// addrGenNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h: the link gets no link-local address by itself. Over one,
// every container could reach the host.
const addrGenNone = 1

func wrongGenMode(have *hostLink, _ wanted) string {
	if have.genMode >= 0 && have.genMode != addrGenNone {
		return "link-local addresses are on"
	}
	return ""
}

func setGenMode(l links, have *hostLink, _ wanted) error {
	l.step("turn link-local addresses off")
	err := netlink.LinkSetIP6AddrGenMode(have, addrGenNone)
	// A host without IPv6 refuses the mode, and needs none.
	if err != nil && !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("turn link-local addresses off: %w", err)
	}
	have.genMode = addrGenNone
	return nil
}

func wrongAddresses(have *hostLink, want wanted) string {
	var out []string
	extra, missing := want.addresses(have)
	for _, a := range extra {
		out = append(out, "address "+a.IPNet.String())
	}
	for _, gateway := range missing {
		out = append(out, "no address "+gateway.String())
	}
	return strings.Join(out, ", ")
}

// addresses returns which of a link's addresses are not wanted, and which are missing, if its addresses are known.
func (w wanted) addresses(have *hostLink) (extra []netlink.Addr, missing []netip.Prefix) {
	if !have.listed {
		return nil, nil
	}
	missing = slices.Clone(w.gateways)
	for _, a := range have.addresses {
		i := slices.IndexFunc(missing, func(p netip.Prefix) bool { return p.String() == a.IPNet.String() })
		if i < 0 {
			extra = append(extra, a)
			continue
		}
		missing = slices.Delete(missing, i, i+1)
	}
	return extra, missing
}

// setAddresses keeps the host apart from its networks, but for gateways: over an address containers could reach it.
func setAddresses(l links, have *hostLink, want wanted) error {
	extra, missing := want.addresses(have)
	for _, a := range extra {
		l.step("remove address")
		if err := netlink.AddrDel(have, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	have.addresses = slices.DeleteFunc(have.addresses, func(a netlink.Addr) bool {
		return slices.ContainsFunc(extra, func(e netlink.Addr) bool { return e.Equal(a) })
	})
	if len(extra) > 0 { // with the first address of a subnet the kernel removes the others
		missing = want.gateways
	}
	for _, gateway := range missing {
		l.step("add address")
		a := gatewayAddress(gateway)
		if err := netlink.AddrAdd(have, a); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add address %s: %w", gateway, err)
		}
		have.addresses = append(have.addresses, *a)
	}
	return nil
}

func wrongUp(have *hostLink, _ wanted) string {
	if have.Attrs().Flags&net.FlagUp == 0 {
		return "down"
	}
	return ""
}

func setUp(l links, have *hostLink, _ wanted) error {
	l.step("set up")
	if err := netlink.LinkSetUp(have); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	have.Attrs().Flags |= net.FlagUp
	return nil
}
