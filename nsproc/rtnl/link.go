// SPDX-License-Identifier: Apache-2.0

package rtnl

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
	"github.com/weaveplugin/weave/nsproc/netstate"
)

// Here is the target of a listing of the connection's own namespace. Other targets are namespace ids (NamespaceID).
const Here = -1

// skipStats is RTEXT_FILTER_SKIP_STATS: links are listed without the counters that each protocol has of its own.
const skipStats = 1 << 3

// Links returns the links of the target namespace with their addresses, in the order of their indexes. The error wraps
// ErrNoTarget if the kernel can't list that namespace, ErrInterrupted if the links kept changing.
func (c *Conn) Links(target int) ([]netstate.Link, error) {
	if target != Here && !c.strict {
		return nil, ErrNoTarget // the kernel would ignore the target and list this namespace
	}
	links, err := c.BareLinks(target)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	addrs, err := c.addresses(target)
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	setAddresses(links, addrs)
	return links, nil
}

// setAddresses sorts the links and sets the addresses of each, sorted. addrs has the addresses by index of their link.
func setAddresses(links []netstate.Link, addrs map[int][]netip.Prefix) {
	slices.SortFunc(links, func(a, b netstate.Link) int { return cmp.Compare(a.Index, b.Index) })
	for i := range links {
		links[i].Addresses = addrs[links[i].Index]
		slices.SortFunc(links[i].Addresses, func(a, b netip.Prefix) int {
			return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
		})
	}
}

// BareLinks is like Links but leaves the addresses out.
func (c *Conn) BareLinks(target int) ([]netstate.Link, error) {
	var links []netstate.Link
	err := c.dump(unix.RTM_GETLINK, linksRequest(target), func() { links = nil }, func(m Message) error {
		l, from, err := decodeLink(m.Payload)
		if err == nil && from != target {
			err = ErrNoTarget
		}
		links = append(links, l)
		return err
	})
	return links, err
}

func linksRequest(target int) []byte {
	request := appendAttr32(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK, skipStats)
	if target != Here {
		request = appendAttr32(request, unix.IFLA_TARGET_NETNSID, uint32(target))
	}
	return request
}

// decodeLink decodes an RTM_NEWLINK. from is the target, as in Links, whose link it is.
func decodeLink(b []byte) (l netstate.Link, from int, err error) {
	if len(b) < unix.SizeofIfInfomsg {
		return l, 0, errShort
	}
	flags := native.Uint32(b[8:])
	l = netstate.Link{
		Index:   int(int32(native.Uint32(b[4:]))),
		Up:      flags&unix.IFF_UP != 0,
		Carrier: flags&unix.IFF_LOWER_UP != 0,
	}
	from = Here
	err = EachAttr(b[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.Name = text(v)
		case unix.IFLA_ADDRESS:
			l.MAC = mac.FromBytes(v)
		case unix.IFLA_MTU:
			l.MTU, err = number(v)
		case unix.IFLA_LINK:
			l.Peer, err = number(v)
		case unix.IFLA_MASTER:
			l.Master, err = number(v)
		case unix.IFLA_TARGET_NETNSID:
			from, err = number(v)
		case unix.IFLA_QDISC:
			l.Qdisc = text(v)
		case unix.IFLA_LINKINFO:
			err = decodeInfo(&l, v)
		case unix.IFLA_STATS64:
			l.Counters = decodeCounters(v)
		}
		return err
	})
	return l, from, err
}

// decodeCounters decodes a struct rtnl_link_stats64 (linux/if_link.h); nil: it is too short for one.
func decodeCounters(v []byte) *netstate.Counters {
	const used = 8
	if len(v) < used*8 {
		return nil
	}
	var n [used]uint64
	for i := range n {
		n[i] = native.Uint64(v[8*i:])
	}
	return &netstate.Counters{
		RxPackets: n[0], TxPackets: n[1], RxBytes: n[2], TxBytes: n[3], RxErrors: n[4], TxErrors: n[5],
		RxDropped: n[6], TxDropped: n[7],
	}
}

// portState returns the name of a state of a bridge port, BR_STATE_* of linux/if_bridge.h.
func portState(n uint8) string {
	names := [...]string{"disabled", "listening", "learning", "forwarding", "blocking"}
	if int(n) < len(names) {
		return names[n]
	}
	return "unknown"
}

// decodeInfo decodes IFLA_LINKINFO: what a link is, and how it is as a port of a bridge.
func decodeInfo(l *netstate.Link, info []byte) error {
	return EachAttr(info, func(typ uint16, v []byte) error {
		switch typ {
		case unix.IFLA_INFO_KIND:
			l.Kind = text(v)
		case unix.IFLA_INFO_SLAVE_DATA:
			return EachAttr(v, func(typ uint16, v []byte) error {
				switch {
				case len(v) != 1: // another slave than a port of a bridge may have the same types
				case typ == unix.IFLA_BRPORT_STATE:
					l.PortState = portState(v[0])
				case typ == unix.IFLA_BRPORT_ISOLATED:
					l.Isolated = v[0] != 0
				}
				return nil
			})
		}
		return nil
	})
}

// addresses returns the addresses in the target namespace by the index of their link.
func (c *Conn) addresses(target int) (map[int][]netip.Prefix, error) {
	var addrs map[int][]netip.Prefix
	reset := func() { addrs = map[int][]netip.Prefix{} }
	err := c.dump(unix.RTM_GETADDR, addressesRequest(target), reset, func(m Message) error {
		index, prefix, from, err := decodeAddress(m.Payload)
		if err == nil && from != target {
			err = ErrNoTarget
		}
		if prefix.IsValid() {
			addrs[index] = append(addrs[index], prefix)
		}
		return err
	})
	return addrs, err
}

func addressesRequest(target int) []byte {
	request := make([]byte, unix.SizeofIfAddrmsg)
	if target != Here {
		request = appendAttr32(request, unix.IFA_TARGET_NETNSID, uint32(target))
	}
	return request
}

// decodeAddress decodes an RTM_NEWADDR. The prefix is the zero Prefix if its family is neither IPv4 nor IPv6.
func decodeAddress(b []byte) (index int, prefix netip.Prefix, from int, err error) {
	if len(b) < unix.SizeofIfAddrmsg {
		return 0, prefix, 0, errShort
	}
	family, bits := b[0], int(b[1])
	index, from = int(native.Uint32(b[4:])), Here
	var local, address netip.Addr
	err = EachAttr(b[unix.SizeofIfAddrmsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.IFA_LOCAL:
			local, err = addr(family, v)
		case unix.IFA_ADDRESS: // the same, except on a point-to-point link: there the other end's address
			address, err = addr(family, v)
		case unix.IFA_TARGET_NETNSID:
			from, err = number(v)
		}
		return err
	})
	if err != nil {
		return 0, prefix, 0, err
	}
	if !local.IsValid() {
		local = address
	}
	prefix, err = prefixOf(local, bits)
	return index, prefix, from, err
}

// prefixOf returns a with a prefix length, and the zero Prefix for the zero Addr.
func prefixOf(a netip.Addr, bits int) (netip.Prefix, error) {
	if !a.IsValid() {
		return netip.Prefix{}, nil
	}
	p := netip.PrefixFrom(a, bits)
	if !p.IsValid() {
		return netip.Prefix{}, fmt.Errorf("netlink: address %s with a prefix of %d bits", a, bits)
	}
	return p, nil
}

// addr decodes an address. It returns the zero Addr if the family is neither IPv4 nor IPv6.
func addr(family byte, v []byte) (netip.Addr, error) {
	if family != unix.AF_INET && family != unix.AF_INET6 {
		return netip.Addr{}, nil
	}
	a, ok := netip.AddrFromSlice(v)
	if !ok || a.Is4() != (family == unix.AF_INET) {
		return netip.Addr{}, fmt.Errorf("netlink: an address of family %d has %d bytes", family, len(v))
	}
	return a, nil
}

// number decodes an attribute with a signed 32-bit number.
func number(v []byte) (int, error) {
	n, err := number32(v)
	return int(int32(n)), err
}

// text decodes a zero-terminated string.
func text(v []byte) string {
	v, _, _ = bytes.Cut(v, []byte{0})
	return string(v)
}
