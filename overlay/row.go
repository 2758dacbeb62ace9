// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weaveplugin/weave/internal/mac"
)

// links are the indexes of a network's links.
type links struct{ device, bridge int }

// mark is what weave's rows have: NTF_EXT_LEARNED, "learned by a controller". The kernel does not age such rows, and
// keeps the mark, with one exception: all flood rows of a device share one, which goes for good when somebody adds a
// flood row without it.
//
// Those of Port have sticky instead, NTF_STICKY of Linux 4.20: the bridge does not learn the MAC at another port. A row
// with the mark it would move, and any container that sends a frame with the MAC of one on another host would get its
// traffic. So a MAC that comes to this host gets no frames until its row is gone. No endpoint gets one that another
// host's still has.
const (
	mark   = unix.NTF_EXT_LEARNED
	sticky = 0x40 // of linux/neighbour.h
)

// ndaNexthop is NDA_NH_ID of linux/neighbour.h.
const ndaNexthop = 13

// row is a row that is in the kernel's tables.
type row struct {
	Entry
	marked bool
	fixed  bool // somebody has entered it; otherwise the kernel has learned it
	usable bool // it does what the Entry says
}

// decodeRow decodes a message about a neighbour. ok is false if it is about nothing of this network.
func decodeRow(b []byte, l links) (r row, ok bool) {
	if len(b) < unix.SizeofNdMsg {
		return row{}, false
	}
	family, index := b[0], int(int32(native.Uint32(b[4:])))
	state, flags := native.Uint16(b[8:]), b[10]
	var address netip.Addr
	var hw mac.Address
	bridge, plain := 0, true
	for typ, value := range attributes(b[unix.SizeofNdMsg:]) {
		switch typ {
		case unix.NDA_DST:
			address, _ = netip.AddrFromSlice(value)
		case unix.NDA_LLADDR:
			hw = mac.FromBytes(value)
		case unix.NDA_MASTER:
			if len(value) == 4 {
				bridge = int(native.Uint32(value))
			}
		case unix.NDA_VLAN, unix.NDA_PORT, unix.NDA_VNI, unix.NDA_IFINDEX, ndaNexthop:
			plain = false // the kernel tells these only where they are not the usual
		}
	}
	r = row{
		Entry:  Entry{MAC: hw, Address: address},
		marked: flags&mark != 0,
		fixed:  state&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0,
		usable: true,
	}
	switch {
	case family != unix.AF_BRIDGE:
		r.Table, ok = Neighbour, index == l.bridge
		r.usable = r.fixed
	case bridge == l.bridge && flags&unix.NTF_SELF == 0:
		r.Table, ok = Port, plain
		r.usable = index == l.device
		r.fixed = r.fixed || r.marked
		r.marked = flags&sticky != 0
	case index == l.device:
		r.Table, ok = Tunnel, true
		if hw.IsZero() {
			r.Table = Flood
		}
		r.usable = plain
	}
	r.Address = r.Address.Unmap()
	return r, ok
}

// ports lists the rows of a network's forwarding tables: those of its VXLAN device and of its bridge.
func (c *conn) ports(ctx context.Context, l links) ([]row, error) {
	request := make([]byte, unix.SizeofNdMsg)
	request[0] = unix.AF_BRIDGE
	request = appendAttribute(request, unix.NDA_MASTER, native.AppendUint32(nil, uint32(l.bridge)))
	var rows []row
	err := c.dump(ctx, request, func() { rows = nil }, func(b []byte) {
		if r, ok := decodeRow(b, l); ok {
			rows = append(rows, r)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list the forwarding entries: %w", err)
	}
	return rows, nil
}

// neighbours lists the rows of the neighbour tables of bridges, by the bridges' indexes. Whichever are asked for, the
// kernel goes through the neighbours of all links: so it is asked once for many bridges.
func (c *conn) neighbours(ctx context.Context, bridges []int) (map[int][]row, error) {
	request := make([]byte, unix.SizeofNdMsg)
	if len(bridges) == 1 {
		request = appendAttribute(request, unix.NDA_IFINDEX, native.AppendUint32(nil, uint32(bridges[0])))
	}
	rows := make(map[int][]row, len(bridges))
	reset := func() {
		for _, bridge := range bridges {
			rows[bridge] = nil
		}
	}
	err := c.dump(ctx, request, reset, func(b []byte) {
		if len(b) < unix.SizeofNdMsg {
			return
		}
		bridge := int(int32(native.Uint32(b[4:])))
		if _, asked := rows[bridge]; !asked {
			return
		}
		if r, ok := decodeRow(b, links{bridge: bridge}); ok {
			rows[bridge] = append(rows[bridge], r)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list the neighbours: %w", err)
	}
	return rows, nil
}

// change adds an entry, in the place of one with the same key if there is one, or removes it.
type change struct {
	Entry
	remove bool
}

// isDone reports whether an error says that there was nothing to do.
func (ch change) isDone(err error) bool {
	return ch.remove && errors.Is(err, unix.ENOENT)
}

// append appends the request that makes the change.
func (ch change) append(b []byte, l links, flags uint16, sequence uint32) []byte {
	typ := uint16(unix.RTM_DELNEIGH)
	if !ch.remove {
		typ = unix.RTM_NEWNEIGH
		flags |= unix.NLM_F_CREATE | unix.NLM_F_REPLACE
		if ch.Table == Flood { // one of several
			flags = flags&^unix.NLM_F_REPLACE | unix.NLM_F_APPEND
		}
	}
	family, index, state, own := byte(unix.AF_BRIDGE), l.device, uint16(unix.NUD_PERMANENT), byte(unix.NTF_SELF|mark)
	switch ch.Table {
	case Port:
		state, own = unix.NUD_NOARP, unix.NTF_MASTER|sticky
	case Neighbour:
		family, index, own = unix.AF_INET6, l.bridge, mark
		if ch.Address.Is4() {
			family = unix.AF_INET
		}
	}
	start := len(b)
	b = appendHeader(b, typ, flags, sequence)
	b = append(b, family, 0, 0, 0)
	b = native.AppendUint32(b, uint32(index))
	b = native.AppendUint16(b, state)
	b = append(b, own, 0)
	b = appendAttribute(b, unix.NDA_LLADDR, ch.MAC[:])
	if ch.Address.IsValid() {
		b = appendAttribute(b, unix.NDA_DST, ch.Address.AsSlice())
	}
	native.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// appendHeader appends the header of a message, whose length is still to be entered at its beginning.
func appendHeader(b []byte, typ, flags uint16, sequence uint32) []byte {
	b = append(b, 0, 0, 0, 0)
	b = native.AppendUint16(b, typ)
	b = native.AppendUint16(b, flags)
	b = native.AppendUint32(b, sequence)
	return append(b, 0, 0, 0, 0) // the port is the kernel's to know
}

func appendAttribute(b []byte, typ uint16, value []byte) []byte {
	b = native.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = native.AppendUint16(b, typ)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}
