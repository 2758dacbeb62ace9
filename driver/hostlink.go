// SPDX-License-Identifier: Apache-2.0

package driver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/driver/tc"
)

// hostLink is a link of the host with all that properties are about. The kernel tells nearly all of it in the one
// message about a link, sysctls included; the netlink library leaves out what the fields below have.
type hostLink struct {
	netlink.Link
	genMode   int               // IN6_ADDR_GEN_MODE_* of linux/if_link.h; -1: the link has no IPv6
	ipv4      []uint32          // its sysctls net.ipv4.conf, at IPV4_DEVCONF_* - 1 of linux/ip.h; nil: it has no IPv4
	ipv6      []uint32          // its sysctls net.ipv6.conf, at DEVCONF_* of linux/ipv6.h; nil: it has no IPv6
	port      map[uint16]uint16 // by IFLA_BRPORT_*, what it is as a port of a bridge; nil: it is none
	stp       bool              // it is a bridge that runs the spanning tree protocol
	listed    bool              // by listHostLinks, which alone tells the next two
	addresses []netlink.Addr
	portMTU   int          // lowest MTU of its ports that are not weave's; 0: none
	programs  *tc.Attached // nil: not looked at
}

// skipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: links are told without their packet counters.
const skipStats = 1 << 3

// listHostLinks lists the host's links, with their addresses, by name.
func listHostLinks(ctx context.Context) (map[string]*hostLink, error) {
	links, err := dump(ctx, "links", func() ([]*hostLink, error) { return requestLinks(unix.NLM_F_DUMP, 0) })
	if err != nil {
		return nil, err
	}
	addresses, err := dump(ctx, "addresses", func() ([]netlink.Addr, error) {
		return netlink.AddrList(nil, netlink.FAMILY_ALL)
	})
	if err != nil {
		return nil, err
	}
	byName, byIndex := make(map[string]*hostLink, len(links)), make(map[int]*hostLink, len(links))
	for _, link := range links {
		byName[link.Attrs().Name], byIndex[link.Attrs().Index] = link, link
	}
	for _, a := range addresses {
		if link := byIndex[a.LinkIndex]; link != nil {
			link.addresses = append(link.addresses, a)
		}
	}
	for _, link := range links {
		link.listed = true
		a := link.Attrs()
		_, ours := parseAlias(a.Alias)
		ours = ours || isOwnName(a.Name) // the alias comes later than the bridge
		if bridge := byIndex[a.MasterIndex]; bridge != nil && !ours && (bridge.portMTU == 0 || a.MTU < bridge.portMTU) {
			bridge.portMTU = a.MTU
		}
	}
	return byName, nil
}

// findHostLink returns the link of that name, nil if there is none. It costs far less than a listing of all links.
func findHostLink(name string) (*hostLink, error) {
	link, err := requestLink(0, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if err != nil {
		return nil, fmt.Errorf("look up link %s: %w", name, err)
	}
	return link, nil
}

// findHostLinkAt returns the link with that index, nil if there is none.
func findHostLinkAt(index int) (*hostLink, error) {
	link, err := requestLink(int32(index))
	if err != nil {
		return nil, fmt.Errorf("look up link %d: %w", index, err)
	}
	return link, nil
}

// requestLink asks the kernel for one link, nil if there is none.
func requestLink(index int32, which ...nl.NetlinkRequestData) (*hostLink, error) {
	links, err := requestLinks(0, index, which...)
	switch {
	case errors.Is(err, unix.ENODEV) || err == nil && len(links) == 0:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return links[0], nil
}

// requestLinks asks the kernel for links: that of an index, or those that the attributes say.
func requestLinks(flags int, index int32, which ...nl.NetlinkRequestData) ([]*hostLink, error) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = index
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, flags)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
	for _, attr := range which {
		req.AddData(attr)
	}
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return nil, err
	}
	links := make([]*hostLink, 0, len(messages))
	for _, m := range messages {
		link, err := decodeLink(m)
		if err != nil {
			return nil, fmt.Errorf("decode a link: %w", err)
		}
		links = append(links, link)
	}
	return links, nil
}

// decodeLink decodes the kernel's message about a link.
func decodeLink(message []byte) (*hostLink, error) {
	link, err := netlink.LinkDeserialize(nil, message)
	if err != nil {
		return nil, err
	}
	h := &hostLink{Link: link, genMode: -1}
	err = eachAttr(message[unix.SizeofIfInfomsg:], func(typ uint16, value []byte) error {
		switch typ {
		case unix.IFLA_LINKINFO:
			return h.decodeInfo(value)
		case unix.IFLA_AF_SPEC:
			return eachAttr(value, h.decodeFamily)
		}
		return nil
	})
	return h, err
}

// decodeInfo decodes IFLA_LINKINFO, which has what is particular to bridges and to their ports.
func (h *hostLink) decodeInfo(info []byte) error {
	var data, slaveData []byte
	var slaveKind string
	err := eachAttr(info, func(typ uint16, value []byte) error {
		switch typ {
		case nl.IFLA_INFO_DATA:
			data = value
		case nl.IFLA_INFO_SLAVE_KIND:
			slaveKind = unix.ByteSliceToString(value)
		case nl.IFLA_INFO_SLAVE_DATA:
			slaveData = value
		}
		return nil
	})
	if err == nil && isBridge(h) {
		err = eachAttr(data, func(typ uint16, value []byte) error {
			if typ == nl.IFLA_BR_STP_STATE && len(value) == 4 {
				h.stp = binary.NativeEndian.Uint32(value) != 0
			}
			return nil
		})
	}
	if err != nil || slaveKind != "bridge" {
		return err
	}
	h.port = map[uint16]uint16{}
	return eachAttr(slaveData, func(typ uint16, value []byte) error {
		switch len(value) {
		case 1:
			h.port[typ] = uint16(value[0])
		case 2:
			h.port[typ] = binary.NativeEndian.Uint16(value)
		}
		return nil
	})
}

// decodeFamily decodes what IFLA_AF_SPEC has of one family of addresses.
func (h *hostLink) decodeFamily(family uint16, spec []byte) error {
	return eachAttr(spec, func(typ uint16, value []byte) error {
		switch {
		case family == unix.AF_INET && typ == unix.IFLA_INET_CONF:
			h.ipv4 = numbers(value)
		case family == unix.AF_INET6 && typ == unix.IFLA_INET6_CONF:
			h.ipv6 = numbers(value)
		case family == unix.AF_INET6 && typ == unix.IFLA_INET6_ADDR_GEN_MODE && len(value) > 0:
			h.genMode = int(value[0])
		}
		return nil
	})
}

// eachAttr calls handle with the type, without its flag bits, and the value of each attribute.
func eachAttr(b []byte, handle func(typ uint16, value []byte) error) error {
	attrs, err := nl.ParseRouteAttr(b)
	if err != nil {
		return err
	}
	for _, a := range attrs {
		if err := handle(a.Attr.Type&nl.NLA_TYPE_MASK, a.Value); err != nil {
			return err
		}
	}
	return nil
}

// numbers decodes an array of 32-bit numbers.
func numbers(b []byte) []uint32 {
	out := make([]uint32, len(b)/4)
	for i := range out {
		out[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return out
}
